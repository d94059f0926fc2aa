{{/*
The base job template, as YAML. `variables` lists what a deployment may set in job_variables, and
`job_configuration` is what the worker creates from them. Settings that isolate runs and restrict
their pods are written as constants and cannot be overridden. Prefect's placeholders are written as
'{{ "{{ name }}" }}'. Takes (dict "root" $ "pool" POOL). `jobs.template` is merged in later.
*/}}
{{- define "prefect-worker.baseJobTemplate" -}}
{{- $jobs := .pool.jobs -}}
{{- $labels := merge (dict "app.kubernetes.io/component" "flow-run") $jobs.labels -}}
{{- $plain := dict "DO_NOT_TRACK" "1" "PREFECT_FLOWS_HEARTBEAT_FREQUENCY" (toString (int64 $jobs.heartbeatSeconds)) -}}
{{/* Each process of a run would ask for the API's version, without the retries of other requests. */ -}}
{{- $_ := set $plain "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED" "false" -}}
{{- if eq $jobs.logFormat "json" -}}
{{- $_ := set $plain "PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER" "json" -}}
{{- end -}}
{{- with $jobs.results -}}
{{- $_ := set $plain "RESULT_WRITE_SECONDS" (toString (int64 .writeSeconds)) -}}
{{- if .storageBlock -}}
{{- $_ := set $plain "PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK" .storageBlock -}}
{{- $_ := set $plain "PREFECT_RESULTS_PERSIST_BY_DEFAULT" "true" -}}
{{- end -}}
{{- end -}}
{{- $references := list -}}
{{- range $jobs.env -}}
{{- if .valueFrom -}}
{{- $references = append $references . -}}
{{- else -}}
{{- $_ := set $plain .name .value -}}
{{- end -}}
{{- end -}}
{{- $identity := .root.Values.auth.runIdentity -}}
{{- if $identity.enabled -}}
{{- $references = append $references (dict "name" "POD_TOKEN_FILE" "value" "/var/run/secrets/prefect/token") -}}
{{- end -}}
job_configuration:
  command: '{{ "{{ command }}" }}'
  env: '{{ "{{ env }}" }}'
  labels: '{{ "{{ labels }}" }}'
  annotations: '{{ "{{ annotations }}" }}'
  name: '{{ "{{ name }}" }}'
  namespace: {{ .pool.namespace }}
  job_manifest:
    apiVersion: batch/v1
    kind: Job
    metadata:
      namespace: {{ .pool.namespace }}
      generateName: '{{ "{{ name }}-" }}'
      labels:
        {{- toYaml $labels | nindent 8 }}
    spec:
      # Prefect itself retries runs. A second pod would execute the same run twice.
      backoffLimit: 0
      activeDeadlineSeconds: '{{ "{{ active_deadline_seconds }}" }}'
      ttlSecondsAfterFinished: '{{ "{{ finished_job_ttl }}" }}'
      template:
        metadata:
          {{- include "prefect-library.podMetadata" (dict "root" .root "labels" (toYaml $labels) "values" $jobs) | nindent 10 }}
        spec:
          # The worker requires these two fields here, although they are not fields of a pod and
          # Kubernetes ignores them. 1 is also the Job's default for both.
          parallelism: 1
          completions: 1
          restartPolicy: Never
          serviceAccountName: {{ $jobs.serviceAccountName }}
          automountServiceAccountToken: false
          {{- include "prefect-library.podDefaults" (dict "root" .root "values" $jobs "user" 1000) | nindent 10 }}
          containers:
            - name: prefect-job
              image: '{{ "{{ image }}" }}'
              imagePullPolicy: '{{ "{{ image_pull_policy }}" }}'
              args: '{{ "{{ command }}" }}'
              # References and constants. The worker adds the variables from `env` below before them.
              env: {{ toJson $references }}
              securityContext:
                {{- include "prefect-library.containerSecurityContext" . | nindent 16 }}
              resources:
                requests:
                  cpu: '{{ "{{ cpu_request }}" }}'
                  memory: '{{ "{{ memory_request }}" }}'
                limits:
                  cpu: '{{ "{{ cpu_limit }}" }}'
                  memory: '{{ "{{ memory_limit }}" }}'
              volumeMounts:
                - {name: tmp, mountPath: /tmp}
                {{- with include "prefect-worker.apiVolumeMounts" .root }}
                {{- . | nindent 16 }}
                {{- end }}
                {{- with $jobs.extraVolumeMounts }}
                {{- toYaml . | nindent 16 }}
                {{- end }}
          volumes:
            - name: tmp
              emptyDir: {sizeLimit: {{ $jobs.tmpSizeLimit }}}
            # The worker adds the id of the run to the audience, so that the API knows the run.
            {{- with include "prefect-worker.apiVolumes" (dict "root" .root "part" "flow-runs/") }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with $jobs.extraVolumes }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
variables:
  type: object
  properties:
    name:
      title: Name
      description: Name of the Job, to which Kubernetes adds a suffix. If empty, the flow run's name is used.
      type: string
    image:
      title: Image
      description: Image of the job pod. It has to contain the flow and Prefect.
      type: string
      default: {{ include "prefect-library.image" (dict "root" .root "image" $jobs.image) | quote }}
    image_pull_policy:
      title: Image Pull Policy
      description: When the node pulls the image.
      type: string
      enum: [IfNotPresent, Always, Never]
      default: {{ $jobs.image.pullPolicy }}
    command:
      title: Command
      description: Command of the job pod, which executes the flow run that PREFECT__FLOW_RUN_ID names.
      type: string
      default: {{ $jobs.command | quote }}
    env:
      title: Environment Variables
      description: Variables in plain text, which override the pool's. Secrets would be visible in the Job.
      type: object
      additionalProperties:
        anyOf: [{type: string}, {type: "null"}]
      default: {{ toJson $plain }}
    labels:
      title: Labels
      description: Additional labels of the Job and its pod.
      type: object
      additionalProperties: {type: string}
    annotations:
      title: Annotations
      description: Additional annotations of the Job and its pod.
      type: object
      additionalProperties: {type: string}
    cpu_request:
      title: CPU Request
      description: CPU that the scheduler reserves, such as 500m.
      type: string
      default: {{ $jobs.resources.requests.cpu | quote }}
    memory_request:
      title: Memory Request
      description: Memory that the scheduler reserves, such as 512Mi.
      type: string
      default: {{ $jobs.resources.requests.memory | quote }}
    cpu_limit:
      title: CPU Limit
      description: CPU above which the pod is throttled.
      type: string
      {{- with $jobs.resources.limits.cpu }}
      default: {{ . | quote }}
      {{- end }}
    memory_limit:
      title: Memory Limit
      description: Memory above which the pod is killed.
      type: string
      {{- with $jobs.resources.limits.memory }}
      default: {{ . | quote }}
      {{- end }}
    active_deadline_seconds:
      title: Active Deadline
      description: Seconds after which the pod is killed, whatever it does.
      type: integer
      minimum: 1
      default: {{ int64 $jobs.activeDeadlineSeconds }}
    finished_job_ttl:
      title: Finished Job TTL
      description: Seconds that the Job is kept after it has finished.
      type: integer
      minimum: 0
      default: {{ include "prefect-library.seconds" .root.Values.retention.jobs.failed }}
{{- end -}}

{{/* The base job template with `jobs.template` merged in, as JSON. Takes the same. */}}
{{- define "prefect-worker.mergedBaseJobTemplate" -}}
{{- $template := include "prefect-worker.baseJobTemplate" . | fromYaml -}}
{{- include "prefect-worker.overlay" (dict "base" $template "over" .pool.jobs.template) | fromYaml | toPrettyJson -}}
{{- end -}}
