{{/*
Spreads the pods of a component over nodes and zones in mode ha. Takes
(dict "root" $ "component" NAME "values" VALUES). Renders nothing if the values set constraints.
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
