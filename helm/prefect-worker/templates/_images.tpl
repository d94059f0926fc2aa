{{/* Takes an image's values: repository, tag. */}}
{{- define "prefect-worker.image" -}}
{{- printf "%s:%s" .repository .tag -}}
{{- end -}}
