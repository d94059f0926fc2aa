{{/* Labels that never change in the life of a release; takes (dict "root" $ "component" NAME). */}}
{{- define "prefect-server.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "prefect-server.labels" -}}
{{ include "prefect-server.selectorLabels" . }}
app.kubernetes.io/part-of: prefect-platform
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}
