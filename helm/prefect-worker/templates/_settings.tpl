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
