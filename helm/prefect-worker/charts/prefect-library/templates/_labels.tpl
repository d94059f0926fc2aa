{{/*
Labels that never change in the life of a release; takes (dict "root" $ "component" NAME), and
"pool" for what a pool has of its own. Prefect labels job pods with their pool in the same way.
*/}}
{{- define "prefect-library.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
prefect.io/work-pool-name: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "prefect-library.labels" -}}
{{ include "prefect-library.selectorLabels" . }}
app.kubernetes.io/part-of: prefect-platform
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}
