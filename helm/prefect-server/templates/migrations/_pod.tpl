{{/* Pod spec of the migration Job. It is a template of its own because the Job's name is a hash of it. */}}
{{- define "prefect-server.migrations.podSpec" -}}
{{- $previous := .Values.encryption.previousSecret -}}
{{- $reencrypts := and $previous.name (not .Values.migrations.revision) -}}
restartPolicy: Never
automountServiceAccountToken: false
{{- include "prefect-library.podDefaults" (dict "root" $ "values" $.Values.migrations "user" 1000) | nindent 0 }}
containers:
  - name: migrate
    {{- include "prefect-library.containerDefaults" (dict "root" $ "image" .Values.image) | nindent 4 }}
    {{- if .Values.migrations.revision }}
    command: [python, -m, prefect_platform.server.database, downgrade, {{ .Values.migrations.revision | quote }}]
    {{- else if $reencrypts }}
    command: [python, -m, prefect_platform.server.reencryption]
    {{- else }}
    command: [python, -m, prefect_platform.server.database, migrate]
    {{- end }}
    args:
      - --timeout={{ .Values.migrations.timeoutSeconds }}
      {{- range ternary .Values.migrations.mayLose list (ne .Values.migrations.revision "") }}
      - --may-lose={{ . }}
      {{- end }}
    env:
      {{- include "prefect-server.commonEnv" . | nindent 6 }}
      {{- if $reencrypts }}
      {{- include "prefect-server.encryptionEnv" . | nindent 6 }}
      - name: PREVIOUS_ENCRYPTION_KEY
        valueFrom:
          secretKeyRef:
            name: {{ $previous.name }}
            key: {{ $previous.key }}
      {{- end }}
    resources:
      {{- toYaml .Values.migrations.resources | nindent 6 }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      {{- with include "prefect-server.database.volumeMounts" . }}
      {{- . | nindent 6 }}
      {{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  {{- with include "prefect-server.database.volumes" . }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}
