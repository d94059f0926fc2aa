{{/*
Refuses an image that can change under its name. Takes (dict "root" $ "key" NAME "image" VALUES).
*/}}
{{- define "prefect-library.validateImage" -}}
{{- if not (include "prefect-library.imageDigest" .) -}}
{{- if eq .root.Values.profile "production" -}}
{{- fail (printf "%s has no digest, but profile is production: a tag can name another image tomorrow; add --values k8s/environments/production/images.yaml, which `prefect-platform promote` writes, or set %s.digest" .key .key) -}}
{{- end -}}
{{- if eq .image.tag "latest" -}}
{{- fail (printf "%s.tag is `latest`, which does not identify an image, and nodes may run different ones: set a fixed tag" .key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
