{{/*
Annotations of a pod: those of the values, and the version of each Secret that it reads as it starts, so
that another version makes another pod. Takes (dict "root" $ "annotations" MAP "secrets" LIST).
*/}}
{{- define "prefect-library.podAnnotations" -}}
{{- $annotations := dict -}}
{{- range $name := .secrets -}}
{{- with get $.root.Values.secretVersions $name -}}
{{- $_ := set $annotations (printf "prefect-platform/%s-version" $name) . -}}
{{- end -}}
{{- end -}}
{{- with merge $annotations .annotations -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}
