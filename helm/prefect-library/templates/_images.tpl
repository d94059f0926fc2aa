{{/*
Reference of an image. Takes (dict "root" $ "image" VALUES). A digest takes precedence over a tag, and
without either, the tag is the chart's appVersion.
*/}}
{{- define "prefect-library.image" -}}
{{- $registry := .root.Values.global.imageRegistry | default .image.registry -}}
{{- if .image.digest -}}
{{- printf "%s/%s@%s" $registry .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s/%s:%s" $registry .image.repository (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
