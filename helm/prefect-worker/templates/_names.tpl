{{/*
A name that leaves five of 63 characters to what comes after it. One that is too long ends in its
checksum, so that two of them never become one.
*/}}
{{- define "prefect-worker.bounded" -}}
{{- if gt (len .) 58 -}}
{{- printf "%s-%s" (trunc 49 . | trimSuffix "-") (sha256sum . | trunc 8) -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}
