{{/*
Fields that every pod spec has. Takes (dict "root" $ "values" VALUES "user" UID), where VALUES has the
keys of prefect-library.scheduling.
*/}}
{{- define "prefect-library.podDefaults" -}}
# Kubernetes would set PREFECT_SERVER_DATABASE_PORT=tcp://... for a Service of that name.
enableServiceLinks: false
{{- include "prefect-library.scheduling" .values }}
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "prefect-library.podSecurityContext" .user | nindent 2 }}
{{- end -}}

{{/* Fields that every container has. Takes (dict "root" $ "image" VALUES). */}}
{{- define "prefect-library.containerDefaults" -}}
image: {{ include "prefect-library.image" . }}
imagePullPolicy: {{ .image.pullPolicy }}
securityContext:
  {{- include "prefect-library.containerSecurityContext" . | nindent 2 }}
{{- end -}}
