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
  value: {{ include "prefect-server.database.host" . | quote }}
- name: PREFECT_SERVER_DATABASE_PORT
  value: {{ ternary $database.external.port 5432 (eq $database.mode "external") | quote }}
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
{{- include "prefect-server.database.tlsEnv" . -}}
{{- end -}}

{{/*
TLS of every connection, as YAML: libpq's mode, the Secret of the CA, the name of the Secret of a
client certificate. The embedded database speaks none. CloudNativePG keeps a CA of its own, in a
Secret named after the Cluster; its pods' volumes wait for it.
*/}}
{{- define "prefect-server.database.tls" -}}
{{- $database := .Values.database -}}
{{- if eq $database.mode "external" -}}
{{- $tls := $database.external.tls -}}
{{- dict "mode" $tls.mode "authority" $tls.caSecret "client" $tls.clientCertificateSecret.name | toYaml -}}
{{- else if eq $database.mode "cloudnative-pg" -}}
{{- $secret := printf "%s-ca" (include "prefect-server.database.fullname" .) -}}
{{- dict "mode" "verify-full" "authority" (dict "name" $secret "key" "ca.crt") "client" "" | toYaml -}}
{{- end -}}
{{- end -}}

{{/* asyncpg's own variables: Prefect and our commands hand it none of these themselves. */}}
{{- define "prefect-server.database.tlsEnv" -}}
{{- with include "prefect-server.database.tls" . | fromYaml }}
- name: PGSSLMODE
  value: {{ .mode }}
{{- if .authority.name }}
- name: PGSSLROOTCERT
  value: /etc/prefect-database/ca.crt
{{- end }}
{{- if .client }}
- name: PGSSLCERT
  value: /etc/prefect-database/tls.crt
- name: PGSSLKEY
  value: /etc/prefect-database/tls.key
{{- end }}
{{- end }}
{{- end -}}

{{/* The certificates, mounted as a directory so that renewed ones arrive; nothing without any. */}}
{{- define "prefect-server.database.volumes" -}}
{{- with include "prefect-server.database.tls" . | fromYaml -}}
{{- if or .authority.name .client -}}
- name: database-certificates
  projected:
    defaultMode: 0440
    sources:
      {{- if .authority.name }}
      - secret:
          name: {{ .authority.name }}
          items: [{key: {{ .authority.key }}, path: ca.crt}]
      {{- end }}
      {{- if .client }}
      - secret:
          name: {{ .client }}
          items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
      {{- end }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "prefect-server.database.volumeMounts" -}}
{{- if include "prefect-server.database.volumes" . -}}
- {name: database-certificates, mountPath: /etc/prefect-database, readOnly: true}
{{- end -}}
{{- end -}}

{{/*
Connections that each process may open. In mode ha a rollout runs one API pod and one pod of the
services more; 10 are kept for superusers (PostgreSQL's own 3), migrations, backups and people.
*/}}
{{- define "prefect-server.database.poolPerProcess" -}}
{{- $api := ternary .Values.api.autoscaling.maxReplicas .Values.api.replicas .Values.api.autoscaling.enabled -}}
{{- $processes := ternary (add $api .Values.backgroundServices.replicas 2) 1 (eq .Values.mode "ha") -}}
{{- div (sub (int (include "prefect-server.database.maxConnections" .)) 10) $processes | min 15 | max 0 -}}
{{- end -}}

{{- define "prefect-server.database.maxConnections" -}}
{{- $database := .Values.database -}}
{{- if eq $database.mode "external" -}}
{{- $database.external.maxConnections -}}
{{- else -}}
{{- $server := ternary $database.embedded $database.cloudnativePg (eq $database.mode "embedded") -}}
{{- $server.parameters.max_connections | default 100 -}}
{{- end -}}
{{- end -}}
