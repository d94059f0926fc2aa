{{/* Environment of every Prefect process of this release. */}}
{{- define "prefect-server.commonEnv" -}}
- name: PREFECT_HOME # the root file system is read-only
  value: /tmp/prefect
- name: PREFECT_SERVER_ANALYTICS_ENABLED
  value: "false"
- name: DO_NOT_TRACK # the client's half of the same switch
  value: "1"
- name: PREFECT_SERVER_DATABASE_MIGRATE_ON_START # the migration Job's task alone: no lock guards it
  value: "false"
{{ include "prefect-server.database.env" . }}
{{- end -}}

{{- define "prefect-server.encryptionEnv" -}}
- name: PREFECT_SERVER_ENCRYPTION_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .Values.encryption.secret.name }}
      key: {{ .Values.encryption.secret.key }}
{{- end -}}

{{/* Keys of secretVersions for the Secrets that the API and the background services read at startup. */}}
{{- define "prefect-server.serverSecrets" -}}
{{- concat (list "auth" "database" "encryption") (ternary (list "redis") list (eq .Values.mode "ha")) | toYaml -}}
{{- end -}}

{{/* Environment of the API and the background services, with extraEnv added. */}}
{{- define "prefect-server.serverEnv" -}}
{{- include "prefect-server.mergedEnv" (dict "own" (include "prefect-server.ownEnv" .) "over" .Values.extraEnv) -}}
{{- end -}}

{{- define "prefect-server.ownEnv" -}}
{{ include "prefect-server.commonEnv" . }}
- name: PREFECT_SERVER_LOGGING_LEVEL
  value: {{ .Values.logLevel }}
{{- if eq .Values.logFormat "json" }}
- name: PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER
  value: json
{{- end }}
{{- with .Values.publicUrl }}
- name: PREFECT_UI_URL # without the slash at its end, Prefect's links would lose the path
  value: {{ . }}/
{{- end }}
{{- with include "prefect-server.pathPrefix" . }}
- name: PREFECT_SERVER_API_BASE_PATH
  value: {{ . }}/api
{{- end }}
# The user interface is served from the API's origin and needs no CORS. Prefect allows all origins.
- name: PREFECT_SERVER_CORS_ALLOWED_ORIGINS
  value: {{ include "prefect-server.publicOrigin" . | quote }}
# The plugins retry the notifications of each channel independently, send security headers, free the
# slot of a deployment only once, and free a slot whose lease is not stored.
- name: PREFECT_PLUGINS_ENABLED
  value: "true"
- name: PREFECT_PLUGINS_ALLOW
  value: deployment-slots,notification-delivery,security-headers,slot-leases{{ with .Values.auth.previousSecret.name }},previous-auth-string{{ end }}{{ if .Values.auth.runIdentity.enabled }},run-identity{{ end }}{{ if .Values.api.tls.enabled }},api-tls{{ end }}
{{- if kindIs "slice" .Values.notifications.hosts }}
- name: NOTIFICATION_HOSTS # read by the plugin notification-delivery
  value: {{ join "," .Values.notifications.hosts | quote }}
{{- end }}
- name: PREFECT_SERVER_API_AUTH_STRING # the actions of automations call the API too
  valueFrom:
    secretKeyRef:
      name: {{ .Values.auth.secret.name }}
      key: {{ .Values.auth.secret.key }}
{{ include "prefect-server.encryptionEnv" . }}
{{- $pool := int (include "prefect-server.database.poolPerProcess" .) }}
- name: PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE
  value: {{ div $pool 2 | quote }}
- name: PREFECT_SERVER_DATABASE_SQLALCHEMY_MAX_OVERFLOW
  value: {{ sub $pool (div $pool 2) | quote }}
{{ include "prefect-server.retention.env" . }}
{{- if eq .Values.mode "ha" }}
{{ include "prefect-server.redis.env" . }}
{{- else }}
- name: PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE
  value: prefect_platform.server.lease_storage
- name: CONCURRENCY_LEASE_FILE
  value: /var/lib/prefect-leases/leases.db
{{- end }}
{{- end -}}

{{/*
The environment `own` (YAML), in which the variables of the list `over` replace those with the same
name. Kubernetes does not apply a list that has a name twice.
*/}}
{{- define "prefect-server.mergedEnv" -}}
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
