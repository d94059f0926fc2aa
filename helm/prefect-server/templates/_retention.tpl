{{/* Settings of Prefect's own vacuum; what it never deletes, the sweep does. */}}
{{- define "prefect-server.retention.env" -}}
{{- $overrides := dict -}}
{{- range $type, $period := .Values.retention.events.byType -}}
{{- $_ := set $overrides $type (include "prefect-library.seconds" $period | int64) -}}
{{- end -}}
- name: PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED # with flow runs come logs and artifacts without one
  value: events,flow_runs
- name: PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD
  value: {{ include "prefect-library.seconds" .Values.retention.flowRuns | quote }}
- name: PREFECT_SERVER_SERVICES_DB_VACUUM_BATCH_SIZE # for Prefect's 200 PostgreSQL walks the primary key
  value: "1000"
- name: PREFECT_SERVER_SERVICES_DB_VACUUM_EVENT_RETENTION_OVERRIDES
  value: {{ toJson $overrides | quote }}
- name: PREFECT_SERVER_EVENTS_RETENTION_PERIOD # bare seconds are refused here
  value: PT{{ include "prefect-library.seconds" .Values.retention.events.default }}S
{{- end -}}
