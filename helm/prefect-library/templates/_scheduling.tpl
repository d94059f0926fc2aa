{{/* Where pods may run. Takes a component's values; renders nothing if all of them are empty. */}}
{{- define "prefect-library.scheduling" -}}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "priorityClassName" "topologySpreadConstraints" -}}
{{- with get $ $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}
{{- end -}}
