{{/* Egress to pods of this release. Takes (dict "root" $ "component" NAME "port" NAME). */}}
{{- define "prefect-server.componentEgress" -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "prefect-library.selectorLabels" . | nindent 10 }}
  ports:
    - port: {{ .port }}
      protocol: TCP
{{- end -}}

{{/* Egress to the database, in every database.mode. */}}
{{- define "prefect-server.databaseEgress" -}}
{{- if eq .Values.database.mode "embedded" -}}
{{- include "prefect-server.componentEgress" (dict "root" $ "component" "database" "port" "postgres") -}}
{{- else if eq .Values.database.mode "cloudnative-pg" -}}
- to:
    - podSelector:
        matchLabels: {cnpg.io/cluster: {{ include "prefect-server.database.fullname" . }}}
  ports:
    - {port: 5432, protocol: TCP}
{{- else -}}
{{- toYaml (list .Values.networkPolicies.externalDatabase) -}}
{{- end -}}
{{- end -}}

{{/* All components of this release that connect to the database, as NetworkPolicyPeers. */}}
{{- define "prefect-server.databaseClients" -}}
{{- range ternary (list "api" "services" "migrations" "retention") (list "api" "migrations" "retention") (eq .Values.mode "ha") }}
- podSelector:
    matchLabels:
      {{- include "prefect-library.selectorLabels" (dict "root" $ "component" .) | nindent 6 }}
{{- end }}
{{- end -}}

{{/* Egress to Redis, in every redis.mode. Renders nothing in mode single. */}}
{{- define "prefect-server.redisEgress" -}}
{{- if include "prefect-server.hasEmbeddedRedis" . -}}
{{- include "prefect-server.componentEgress" (dict "root" $ "component" "redis" "port" "redis") -}}
{{- else if eq .Values.mode "ha" -}}
{{- toYaml (list .Values.networkPolicies.externalRedis) -}}
{{- end -}}
{{- end -}}
