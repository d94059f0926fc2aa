{{/* Where pods may run; takes a component's values and gives nothing when all are empty. */}}
{{- define "prefect-server.scheduling" -}}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "priorityClassName" "topologySpreadConstraints" -}}
{{- with get $ $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Pods of a component that has several, over nodes and zones where there are such; takes
(dict "root" $ "component" NAME "values" VALUES) and gives way to what somebody set.
*/}}
{{- define "prefect-server.spread" -}}
{{- if and (eq .root.Values.mode "ha") (not .values.topologySpreadConstraints) -}}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "prefect-server.selectorLabels" $ | nindent 8 }}
  {{- end }}
{{- end -}}
{{- end -}}
