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
        {{- include "prefect-library.selectorLabels" $ | nindent 8 }}
  {{- end }}
{{- end -}}
{{- end -}}
