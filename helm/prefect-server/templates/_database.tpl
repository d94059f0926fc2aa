{{/*
Environment that points Prefect, and our database commands, at the database. Prefect joins the
parts itself and encodes them, so a password may hold any character; and it is never part of a
rendered URL.
*/}}
{{- define "prefect-server.database.env" -}}
{{- $database := .Values.database -}}
{{- $url := $database.external.connectionUrlSecret -}}
{{- if and (eq $database.mode "external") $url.name -}}
- name: PREFECT_SERVER_DATABASE_CONNECTION_URL
  valueFrom:
    secretKeyRef:
      name: {{ $url.name }}
      key: {{ $url.key }}
{{- else -}}
- name: PREFECT_SERVER_DATABASE_DRIVER
  value: postgresql+asyncpg
- name: PREFECT_SERVER_DATABASE_HOST
{{- if eq $database.mode "external" }}
  value: {{ $database.external.host | quote }}
- name: PREFECT_SERVER_DATABASE_PORT
  value: {{ $database.external.port | quote }}
{{- else }}
  value: {{ include "prefect-server.database.fullname" . }}
- name: PREFECT_SERVER_DATABASE_PORT
  value: "5432"
{{- end }}
- name: PREFECT_SERVER_DATABASE_NAME
  value: {{ $database.name | quote }}
- name: PREFECT_SERVER_DATABASE_USER
  value: {{ $database.user | quote }}
- name: PREFECT_SERVER_DATABASE_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $database.passwordSecret.name }}
      key: {{ $database.passwordSecret.key }}
{{- end -}}
{{- end -}}

{{/*
Connections that each process may open in mode ha. A rollout runs one API pod and one pod of the
services more; 10 are kept for superusers (PostgreSQL's own 3), migrations, backups and people.
*/}}
{{- define "prefect-server.database.poolPerProcess" -}}
{{- $api := ternary .Values.api.autoscaling.maxReplicas .Values.api.replicas .Values.api.autoscaling.enabled -}}
{{- $processes := add $api .Values.services.replicas 2 -}}
{{- div (sub (int (include "prefect-server.database.maxConnections" .)) 10) $processes | min 15 | max 0 -}}
{{- end -}}

{{- define "prefect-server.database.maxConnections" -}}
{{- if eq .Values.database.mode "embedded" -}}
{{- .Values.database.embedded.parameters.max_connections | default 100 -}}
{{- else -}}
{{- .Values.database.external.maxConnections -}}
{{- end -}}
{{- end -}}
