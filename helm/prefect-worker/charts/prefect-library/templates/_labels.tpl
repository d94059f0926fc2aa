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

{{/* Labels of a pod that a new version of the chart leaves as it is; takes what selectorLabels does. */}}
{{- define "prefect-library.stableLabels" -}}
{{ include "prefect-library.selectorLabels" . }}
app.kubernetes.io/part-of: prefect-platform
{{- end -}}

{{/* Labels of everything else; what the values say gives way to the chart's own. */}}
{{- define "prefect-library.labels" -}}
{{- $labels := include "prefect-library.stableLabels" . | fromYaml -}}
{{- $_ := set $labels "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- $_ := set $labels "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) -}}
{{- merge $labels .root.Values.commonLabels | toYaml -}}
{{- end -}}

{{/*
Labels and annotations of an object; takes what selectorLabels does, and "labels" and "annotations" for
those that this object has beside all others.
*/}}
{{- define "prefect-library.metadata" -}}
labels:
  {{- merge (include "prefect-library.labels" . | fromYaml) (.labels | default dict) | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
