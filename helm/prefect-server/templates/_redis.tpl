{{/*
Environment that moves everything that the pods share in mode ha to Redis: events and their order,
concurrency leases, the docket of the background services, and the cleanup queue of workers.

The client's default of 100 connections per process loses events under load. The read timeout lets a
consumer notice that a server has vanished without closing the connection; the docket has a timeout
of its own.
*/}}
{{- define "prefect-server.redis.env" -}}
{{- $external := eq .Values.redis.mode "external" -}}
{{- $secret := ternary .Values.redis.external.urlSecret .Values.redis.passwordSecret $external -}}
{{- $variable := ternary "REDIS_URL" "REDIS_PASSWORD" $external -}}
{{- $url := "$(REDIS_URL)" -}}
{{- if not $external -}}
{{- $url = printf "redis://:$(REDIS_PASSWORD)@%s:6379/0" (include "prefect-server.redis.fullname" .) -}}
{{- end -}}
{{- $timeouts := "&socket_timeout=60&socket_connect_timeout=10" -}}
{{- $url = printf "%s?max_connections=5000" $url -}}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret.name }}
      key: {{ $secret.key }}
- name: PREFECT_SERVER_DOCKET_URL
  value: {{ $url }}
- name: PREFECT_REDIS_MESSAGING_URL
  value: {{ $url }}{{ $timeouts }}
- name: PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL
  value: {{ $url }}{{ $timeouts }}
- name: PREFECT_MESSAGING_BROKER
  value: prefect_redis.messaging
- name: PREFECT_MESSAGING_CACHE
  value: prefect_redis.messaging
- name: PREFECT_SERVER_EVENTS_CAUSAL_ORDERING
  value: prefect_redis.ordering
- name: PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE
  value: prefect_redis.lease_storage
- name: PREFECT_SERVER_WORKER_CHANNEL_CLEANUP_QUEUE_STORAGE
  value: prefect_redis.cleanup_queue
{{- end -}}
