{{/*
Shortens a name so that a suffix of five characters still fits into the limit of 63. A name that is
too long ends in its checksum, so that two long names never become the same.
*/}}
{{- define "prefect-worker.bounded" -}}
{{- if gt (len .) 58 -}}
{{- printf "%s-%s" (trunc 49 . | trimSuffix "-") (sha256sum . | trunc 8) -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}
