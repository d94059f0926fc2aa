{{/* Takes an image's values: repository, tag. */}}
{{- define "prefect-server.image" -}}
{{- printf "%s:%s" .repository .tag -}}
{{- end -}}
