{{/* What every process of Prefect's in this release needs. */}}
{{- define "prefect-server.commonEnv" -}}
- name: PREFECT_HOME # the root file system is read-only
  value: /tmp/prefect
- name: PREFECT_SERVER_ANALYTICS_ENABLED
  value: "false"
- name: DO_NOT_TRACK # the client's half of the same switch
  value: "1"
- name: PREFECT_SERVER_DATABASE_MIGRATE_ON_START # the migration Job's task alone: no lock guards it
  value: "false"
{{ include "prefect-server.database.env" . }}
{{- end -}}
