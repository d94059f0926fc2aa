{{/*
Annotations and labels of a pod. Takes (dict "root" $ "labels" YAML "values" VALUES), and "secrets",
the names of those that the pod reads as it starts: another version of one makes another pod. What the
values say beside that gives way to the chart's own.
*/}}
{{- define "prefect-library.podMetadata" -}}
{{- $annotations := dict -}}
{{- range $name := .secrets -}}
{{- with get $.root.Values.secretVersions $name -}}
{{- $_ := set $annotations (printf "prefect-platform/%s-version" $name) . -}}
{{- end -}}
{{- end -}}
{{- with merge $annotations .values.podAnnotations -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{ end -}}
labels:
  {{- merge (fromYaml .labels) .values.podLabels | toYaml | nindent 2 }}
{{- end -}}
