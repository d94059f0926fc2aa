{{/* Environment with the URL and the credential of the API. Its containers mount apiVolumeMounts. */}}
{{- define "prefect-worker.apiEnv" -}}
- name: PREFECT_API_URL
  value: {{ .Values.api.url | quote }}
{{- if .Values.api.certificateAuthority.name }}
- name: PREFECT_API_SSL_CERT_FILE
  value: /etc/prefect-api/ca.crt
{{- end }}
{{- if .Values.auth.runIdentity.enabled }}
- name: POD_TOKEN_FILE
  value: /var/run/secrets/prefect/token
{{- else }}
- name: PREFECT_API_AUTH_STRING
  valueFrom:
    secretKeyRef:
      name: {{ .Values.auth.secret.name }}
      key: {{ .Values.auth.secret.key }}
{{- end }}
{{- end -}}

{{/*
Volumes of a pod that calls the API: its certificate authority if one is set, and the token by which
the API knows the pod as `part` of the platform. Renders nothing if there is neither.
*/}}
{{- define "prefect-worker.apiVolumes" -}}
{{- $identity := .root.Values.auth.runIdentity -}}
{{- with .root.Values.api.certificateAuthority -}}
{{- if .name }}
- name: api-authority
  {{- if eq .kind "Secret" }}
  secret:
    secretName: {{ .name }}
  {{- else }}
  configMap:
    name: {{ .name }}
  {{- end }}
    items: [{key: {{ .key }}, path: ca.crt}]
{{- end -}}
{{- end -}}
{{- if $identity.enabled }}
- name: pod-token
  projected:
    sources:
      - serviceAccountToken:
          audience: {{ $identity.audience }}/{{ .part }}
          expirationSeconds: 3600
          path: token
{{- end -}}
{{- end -}}

{{- define "prefect-worker.apiVolumeMounts" -}}
{{- if .Values.api.certificateAuthority.name }}
- {name: api-authority, mountPath: /etc/prefect-api, readOnly: true}
{{- end -}}
{{- if .Values.auth.runIdentity.enabled }}
- {name: pod-token, mountPath: /var/run/secrets/prefect, readOnly: true}
{{- end -}}
{{- end -}}

{{/* The right of a ServiceAccount to act as a part of the platform. It gives none in Kubernetes. */}}
{{- define "prefect-worker.partRole" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ .name }}
  {{- include "prefect-library.metadata" .labels | nindent 2 }}
rules:
  - nonResourceURLs: [/{{ .labels.root.Values.auth.runIdentity.audience }}/{{ .path }}]
    verbs: [{{ .verb }}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ .name }}
  {{- include "prefect-library.metadata" .labels | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ .account }}
    namespace: {{ .namespace }}
{{- end -}}

{{/* Plugins of a process that calls the API and is no worker. */}}
{{- define "prefect-worker.clientPlugins" -}}
{{- if .Values.auth.runIdentity.enabled }}
- name: PREFECT_PLUGINS_ENABLED
  value: "true"
- name: PREFECT_PLUGINS_ALLOW
  value: pod-token
{{- end -}}
{{- end -}}

{{/* Environment of a pod that calls the API and then exits. */}}
{{- define "prefect-worker.clientEnv" -}}
{{ include "prefect-worker.apiEnv" . }}
{{- include "prefect-worker.clientPlugins" . }}
- name: PREFECT_HOME # on the volume /tmp
  value: /tmp/prefect
- name: DO_NOT_TRACK
  value: "1"
# If the API is unavailable, the process fails instead of starting a server of its own.
- name: PREFECT_SERVER_EPHEMERAL_ENABLED
  value: "false"
{{- end -}}

{{/* Environment of the worker. The worker passes Prefect's settings among it on to the job pods. */}}
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
# If the API is unavailable, a worker or a run fails instead of starting a server of its own.
- name: PREFECT_SERVER_EPHEMERAL_ENABLED
  value: "false"
# Workers and runs retry for about eight minutes (2 + 4 + … + 256 s) while the API is unavailable,
# from their first request on, and while it answers 500 because its Redis is unavailable.
- name: PREFECT_CLIENT_MAX_RETRIES
  value: "8"
- name: PREFECT_CLIENT_RETRY_EXTRA_CODES
  value: "500"
- name: PREFECT_PLUGINS_ENABLED
  value: "true"
- name: PREFECT_PLUGINS_ALLOW
  value: first-connection,result-writes{{ if .root.Values.auth.runIdentity.enabled }},pod-token{{ end }}
- name: PREFECT_WORKER_QUERY_SECONDS
  value: {{ .pool.worker.querySeconds | quote }}
- name: PREFECT_WORKER_PREFETCH_SECONDS
  value: {{ .pool.worker.prefetchSeconds | quote }}
{{- if not .root.Values.auth.runIdentity.enabled }}
# Without these two variables the worker writes its auth string into each Job.
- name: PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_NAME
  value: {{ .root.Values.auth.secret.name }}
- name: PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_KEY
  value: {{ .root.Values.auth.secret.key }}
{{- end }}
# By default the observer watches the whole cluster, which the worker has no right to do.
- name: PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES
  value: {{ .pool.namespace }}
{{- if eq .pool.worker.logFormat "json" }}
- name: PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER
  value: json
{{- end }}
{{- end -}}

{{/*
The environment `own` (YAML), in which the variables of the list `over` replace those with the same
name. Kubernetes does not apply a list that has a name twice.
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
