{{/* Init containers that wait for the migrations and Redis, so that the main container does not crash. */}}
{{- define "prefect-server.awaitContainers" -}}
{{- $redis := list (dict "name" "await-redis" "module" "prefect_platform.server.redis_server" "env" "redis.env") -}}
{{- $migrations := dict "name" "await-migrations" "module" "prefect_platform.server.database" "arguments" "await-migrations" "env" "database.env" "volumeMounts" (include "prefect-server.database.volumeMounts" .) -}}
{{- range prepend (ternary $redis list (eq .Values.mode "ha")) $migrations }}
- name: {{ .name }}
  {{- include "prefect-library.containerDefaults" (dict "root" $ "image" $.Values.image) | nindent 2 }}
  command: [python, -m, {{ .module }}{{ with .arguments }}, {{ . }}{{ end }}]
  args: ["--timeout={{ $.Values.api.migrationsTimeoutSeconds }}"]
  env:
    {{- include (printf "prefect-server.%s" .env) $ | nindent 4 }}
  resources:
    requests: {cpu: 50m, memory: 64Mi}
    limits: {memory: 128Mi}
  {{- with .volumeMounts }}
  volumeMounts:
    {{- . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}
