{{/*
Annotations and labels of a pod. Takes (dict "root" $ "labels" YAML "values" VALUES), in "annotations"
those of this pod alone, and in "secrets" the keys of secretVersions for the Secrets that the pod
reads when it starts: a new version restarts the pod. The chart's own annotations and labels take
precedence over podAnnotations and podLabels.
*/}}
{{- define "prefect-library.podMetadata" -}}
{{- $annotations := deepCopy (.annotations | default dict) -}}
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
