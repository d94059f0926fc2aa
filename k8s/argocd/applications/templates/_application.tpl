{{/* What is the same in every Application. Takes (dict "root" $ "name" NAME "wave" NUMBER). */}}
{{- define "application.head" -}}
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: prefect-platform-{{ .root.Values.environment }}-{{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    app.kubernetes.io/part-of: prefect-platform
  annotations:
    argocd.argoproj.io/sync-wave: {{ .wave | quote }}
{{- end -}}

{{/* Where an Application deploys from, and to. Takes (dict "root" $ "namespace" NAMESPACE). */}}
{{- define "application.destination" -}}
project: prefect-platform-{{ .root.Values.environment }}
destination:
  server: {{ .root.Values.server | quote }}
  namespace: {{ .namespace }}
{{- end -}}

{{- define "application.repository" -}}
repoURL: {{ .Values.repository.url | quote }}
targetRevision: {{ .Values.repository.revision | quote }}
{{- end -}}

{{/* Values of a chart in the environment. Takes (dict "root" $ "chart" CHART). */}}
{{- define "application.values" -}}
releaseName: prefect-{{ .chart }}
valueFiles:
  - /k8s/environments/{{ .root.Values.environment }}/{{ .chart }}.yaml
  - /k8s/environments/{{ .root.Values.environment }}/retention.yaml
  - /k8s/environments/{{ .root.Values.environment }}/images.yaml
{{- end -}}

{{/* Takes (dict "prune" BOOLEAN). */}}
{{- define "application.syncPolicy" -}}
syncPolicy:
  automated: {prune: {{ .prune }}, selfHeal: true}
  syncOptions:
    - FailOnSharedResource=true # rather than taking an object from another Application
    - PruneLast=true
  retry:
    limit: -1
    refresh: true # a retry takes the newest commit, which may have the fix
    backoff: {duration: 10s, factor: 2, maxDuration: 5m}
{{- end -}}
