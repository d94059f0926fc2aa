{{/* The way to the API. */}}
{{- define "prefect-worker.apiEnv" -}}
- name: PREFECT_API_URL
  value: {{ .Values.api.url | quote }}
- name: PREFECT_API_AUTH_STRING
  valueFrom:
    secretKeyRef:
      name: {{ .Values.auth.existingSecret }}
      key: {{ .Values.auth.key }}
{{- end -}}

{{/* What a pod needs that asks the API and ends. */}}
{{- define "prefect-worker.clientEnv" -}}
{{ include "prefect-worker.apiEnv" . }}
- name: PREFECT_HOME # on the volume /tmp
  value: /tmp/prefect
- name: DO_NOT_TRACK
  value: "1"
# Without an API it fails, instead of starting a server of its own.
- name: PREFECT_SERVER_EPHEMERAL_ENABLED
  value: "false"
{{- end -}}

{{/* What the worker needs beyond the way to the API; Prefect's settings among it reach the job pods. */}}
{{- define "prefect-worker.workerEnv" -}}
{{ include "prefect-worker.apiEnv" .root }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: PREFECT_HOME # on the volume /tmp, in the job pods too
  value: /tmp/prefect
- name: DO_NOT_TRACK
  value: "1"
# Without an API a worker or a run fails, instead of starting a server of its own.
- name: PREFECT_SERVER_EPHEMERAL_ENABLED
  value: "false"
# Worker and runs wait about four minutes (2 + 4 + … + 128 s) for an API that is away,
# from their first request on, and for one that answers 500 while its Redis is away.
- name: PREFECT_CLIENT_MAX_RETRIES
  value: "7"
- name: PREFECT_CLIENT_RETRY_EXTRA_CODES
  value: "500"
- name: PREFECT_PLUGINS_ENABLED
  value: "true"
- name: PREFECT_PLUGINS_ALLOW
  value: first-connection,result-writes
- name: PREFECT_WORKER_QUERY_SECONDS
  value: {{ .pool.worker.querySeconds | quote }}
- name: PREFECT_WORKER_PREFETCH_SECONDS
  value: {{ .pool.worker.prefetchSeconds | quote }}
# Without these two the worker writes its auth string into each Job.
- name: PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_NAME
  value: {{ .root.Values.auth.existingSecret }}
- name: PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_KEY
  value: {{ .root.Values.auth.key }}
# Cluster-wide by default, for which the worker has no rights: the observer would die.
- name: PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES
  value: {{ .pool.namespace }}
{{- if eq .pool.worker.logFormat "json" }}
- name: PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER
  value: json
{{- end }}
{{- end -}}

{{/*
The environment `own`, as YAML, without what the list `over` sets anew, and that. The same name twice
would not be applied.
*/}}
{{- define "prefect-worker.mergedEnv" -}}
{{- $names := list -}}
{{- range .over -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- $merged := list -}}
{{- range .own | fromYamlArray -}}
{{- if not (has .name $names) -}}
{{- $merged = append $merged . -}}
{{- end -}}
{{- end -}}
{{- concat $merged .over | toYaml -}}
{{- end -}}
