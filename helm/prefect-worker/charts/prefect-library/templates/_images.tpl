{{/*
Digest of an image, or empty text. Takes (dict "root" $ "image" VALUES).
*/}}
{{- define "prefect-library.imageDigest" -}}
{{- .image.digest | default (get .root.Values.global.imageDigests .image.repository) -}}
{{- end -}}

{{/*
Reference of an image. Takes (dict "root" $ "image" VALUES). A digest takes precedence over a tag, and
without either, the tag is the chart's appVersion.
*/}}
{{- define "prefect-library.image" -}}
{{- $registry := .root.Values.global.imageRegistry | default .image.registry -}}
{{- with include "prefect-library.imageDigest" . -}}
{{- printf "%s/%s@%s" $registry $.image.repository . -}}
{{- else -}}
{{- printf "%s/%s:%s" $registry .image.repository (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
