{{/* The release's name if it contains the chart's name, otherwise both. */}}
{{- define "prefect-library.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $own := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $own | trunc 40 | trimSuffix "-" -}}
{{- end -}}
