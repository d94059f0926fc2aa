{{/* The release's name when it says what it is, else release and chart. */}}
{{- define "prefect-worker.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Namespace of the job pods. */}}
{{- define "prefect-worker.jobs.namespace" -}}
{{- .Values.jobs.namespace | default (printf "flows-%s" .Values.workPool.name) -}}
{{- end -}}

{{/* Role in the jobs' namespace; releases of other namespaces may have one there too. */}}
{{- define "prefect-worker.jobs.roleName" -}}
{{- printf "%s-%s" .Release.Namespace (include "prefect-worker.fullname" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
