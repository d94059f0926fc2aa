{{/* Egress to the cluster's DNS, which every pod needs to find the others. */}}
{{- define "prefect-server.dnsEgress" -}}
- to:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: kube-system}
      podSelector:
        matchLabels: {k8s-app: kube-dns}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{/* Egress to the database, wherever it is. */}}
{{- define "prefect-server.databaseEgress" -}}
{{- if eq .Values.database.mode "embedded" -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "prefect-server.selectorLabels" (dict "root" $ "component" "database") | nindent 10 }}
  ports:
    - port: postgres
      protocol: TCP
{{- else -}}
{{- toYaml (list .Values.networkPolicies.externalDatabase) -}}
{{- end -}}
{{- end -}}

{{/* Egress to Redis, wherever it is; nothing in mode single. */}}
{{- define "prefect-server.redisEgress" -}}
{{- if include "prefect-server.hasEmbeddedRedis" . -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "prefect-server.selectorLabels" (dict "root" $ "component" "redis") | nindent 10 }}
  ports:
    - port: redis
      protocol: TCP
{{- else if eq .Values.mode "ha" -}}
{{- toYaml (list .Values.networkPolicies.externalRedis) -}}
{{- end -}}
{{- end -}}
