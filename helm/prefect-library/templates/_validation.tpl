{{/* Refuses an image that no tag or digest fixes. Takes (dict "key" NAME "image" VALUES). */}}
{{- define "prefect-library.validateImage" -}}
{{- if not (or .image.tag .image.digest) -}}
{{- fail (printf "%s.tag is empty: set the tag that `make image` printed, for example --set %s.tag=0123456789ab" .key .key) -}}
{{- end -}}
{{- if and (eq .image.tag "latest") (not .image.digest) -}}
{{- fail (printf "%s.tag is `latest`, which does not identify an image, and nodes may run different ones: set a fixed tag" .key) -}}
{{- end -}}
{{- end -}}
