{{/* Settings of Prefect's own vacuum. The retention sweep deletes what the vacuum never deletes. */}}
{{- define "prefect-server.retention.env" -}}
{{- $overrides := dict -}}
{{- range $type, $period := .Values.retention.events.byType -}}
{{- $_ := set $overrides $type (include "prefect-library.seconds" $period | int64) -}}
{{- end -}}
- name: PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED # flow_runs includes logs and artifacts whose run is gone
  value: events,flow_runs
- name: PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD
  value: {{ include "prefect-library.seconds" .Values.retention.flowRuns | quote }}
- name: PREFECT_SERVER_SERVICES_DB_VACUUM_BATCH_SIZE # with Prefect's default of 200, PostgreSQL scans the primary key
  value: "1000"
- name: PREFECT_SERVER_SERVICES_DB_VACUUM_EVENT_RETENTION_OVERRIDES
  value: {{ toJson $overrides | quote }}
- name: PREFECT_SERVER_EVENTS_RETENTION_PERIOD # a plain number of seconds is refused here
  value: PT{{ include "prefect-library.seconds" .Values.retention.events.default }}S
{{- end -}}
