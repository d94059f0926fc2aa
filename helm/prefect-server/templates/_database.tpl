{{/*
Environment with which Prefect and this repository's database commands find the database. Prefect
builds the URL from its parts and encodes them, so a password may contain any character and is never
part of a rendered URL.
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
TLS of every connection, as YAML: libpq's sslmode, the Secret of the CA, and the name of the Secret of
the client certificate. The embedded database has no TLS. CloudNativePG creates a CA of its own, in a
Secret named after the Cluster; pods that mount it start when it exists.
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

{{/* Variables that asyncpg reads itself: neither Prefect nor the database commands pass it TLS settings. */}}
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

{{/* The certificates, mounted as a directory so that renewed certificates reach the pod. Renders nothing
if there are none. */}}
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
Number of connections that each process may open. In mode ha a rollout runs one more API pod and one
more pod of the background services. Ten connections are reserved for superusers (three of them by
PostgreSQL itself), migrations, backups and people.
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
