{{/*
Labels that never change during the life of a release. Takes (dict "root" $ "component" NAME), with
"pool" for objects that belong to one pool. Prefect labels job pods with their pool in the same way.
*/}}
{{- define "prefect-library.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
prefect.io/work-pool-name: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Labels of pods that a new version of the chart must not restart. Takes the same as selectorLabels. */}}
{{- define "prefect-library.stableLabels" -}}
{{ include "prefect-library.selectorLabels" . }}
app.kubernetes.io/part-of: prefect-platform
{{- end -}}

{{/* Labels of all other objects. The chart's own labels take precedence over commonLabels. */}}
{{- define "prefect-library.labels" -}}
{{- $labels := include "prefect-library.stableLabels" . | fromYaml -}}
{{- $_ := set $labels "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- $_ := set $labels "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") -}}
{{- merge $labels .root.Values.commonLabels | toYaml -}}
{{- end -}}

{{/*
Labels and annotations of an object. Takes the same as selectorLabels, and in "labels" and
"annotations" those that only this object has.
*/}}
{{- define "prefect-library.metadata" -}}
labels:
  {{- merge (include "prefect-library.labels" . | fromYaml) (.labels | default dict) | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
