{{/* What API and background services wait for, so that a pod that starts early waits calmly. */}}
{{- define "prefect-server.awaitContainers" -}}
- name: await-migrations
  image: {{ include "prefect-server.image" (dict "root" $ "image" .Values.image) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [python, -m, prefect_platform.database, await-migrations]
  args: ["--timeout={{ .Values.api.migrationsTimeoutSeconds }}"]
  env:
    {{- include "prefect-server.database.env" . | nindent 4 }}
  securityContext:
    {{- include "prefect-server.containerSecurityContext" . | nindent 4 }}
  resources:
    requests: {cpu: 50m, memory: 64Mi}
    limits: {memory: 128Mi}
{{- if eq .Values.mode "ha" }}
- name: await-redis
  image: {{ include "prefect-server.image" (dict "root" $ "image" .Values.image) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [python, -m, prefect_platform.redis_server]
  args: ["--timeout={{ .Values.api.migrationsTimeoutSeconds }}"]
  env:
    {{- include "prefect-server.redis.env" . | nindent 4 }}
  securityContext:
    {{- include "prefect-server.containerSecurityContext" . | nindent 4 }}
  resources:
    requests: {cpu: 50m, memory: 64Mi}
    limits: {memory: 128Mi}
{{- end }}
{{- end -}}
