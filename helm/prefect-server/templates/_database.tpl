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
