{{/* Refuses an image that no tag or digest fixes. Takes (dict "root" $ "key" NAME "image" VALUES). */}}
{{- define "prefect-library.validateImage" -}}
{{- if not .image.digest -}}
{{- if and (not .image.tag) (eq .root.Values.profile "production") -}}
{{- fail (printf "%s has neither a tag nor a digest, but profile is production: the default tag, the chart's appVersion, does not identify an image; set %s.digest or %s.tag" .key .key .key) -}}
{{- end -}}
{{- if eq .image.tag "latest" -}}
{{- fail (printf "%s.tag is `latest`, which does not identify an image, and nodes may run different ones: set a fixed tag" .key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
