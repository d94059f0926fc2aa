{{/* The release's name when it says what it is, else release and chart. */}}
{{- define "prefect-worker.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

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
