{{/*
Seconds that one attempt may take: the wait for the API, then 300 s to load the flows, 240 s to wait
for the lock, and 180 s for the changes.
*/}}
{{- define "prefect-worker.configuration.attemptSeconds" -}}
{{- add .Values.configuration.timeoutSeconds 720 -}}
{{- end -}}

{{/*
Checksum of everything that one upgrade or rollback applies. The pod has that of the upgrade that its
Job belongs to, and the ConfigMap that of the last one, so an outdated pod can tell.
*/}}
{{- define "prefect-worker.configuration.checksum" -}}
{{- $podSpec := include "prefect-worker.configuration.podSpec" . -}}
{{- $templates := include (print $.Template.BasePath "/work-pool/configmap.yaml") . -}}
{{- $metadata := include "prefect-worker.configuration.jobMetadata" (dict "root" $) -}}
{{- print $podSpec .Values.configuration.platform ($templates | fromYaml).data $metadata | sha256sum | trunc 8 -}}
{{- end -}}

{{/*
Metadata of the Job's pod. Takes (dict "root" $ "annotations" DICT). Without version labels: they
change with the chart, and a Job's template is immutable.
*/}}
{{- define "prefect-worker.configuration.jobMetadata" -}}
{{- $labels := dict "root" .root "component" "configuration" -}}
{{- include "prefect-library.podMetadata" (dict "root" .root "annotations" .annotations "labels" (include "prefect-library.stableLabels" $labels) "values" .root.Values.configuration "secrets" (list "configuration")) -}}
{{- end -}}

{{- define "prefect-worker.configuration.annotation" -}}
prefect-platform/configuration-checksum
{{- end -}}

{{/* Pod spec that applies the configuration, for both the Job and the CronJob. */}}
{{- define "prefect-worker.configuration.podSpec" -}}
{{- $configuration := .Values.configuration -}}
restartPolicy: Never
serviceAccountName: {{ include "prefect-library.fullname" . }}.configuration
# Kubernetes copies the name into this older field, and back when only the newer one is removed.
serviceAccount: {{ include "prefect-library.fullname" . }}.configuration
automountServiceAccountToken: false
{{- include "prefect-library.podDefaults" (dict "root" $ "values" $configuration "user" 1000) | nindent 0 }}
containers:
  - name: apply
    # The image of the flows: deployments are made from their code.
    {{- include "prefect-library.containerDefaults" (dict "root" $ "image" .Values.jobs.image) | nindent 4 }}
    command: [python, -m, prefect_platform.configuration]
    args:
      - --file=/etc/prefect-platform/platform/platform.yaml
      - --deployments=/opt/prefect/prefect.yaml
      - --secrets=/etc/prefect-platform/secrets
      - --templates=/etc/prefect-platform/base-job-templates
      - --release={{ .Release.Namespace }}/{{ .Release.Name }}
      - --timeout={{ int64 $configuration.timeoutSeconds }}
      - --checksum=$(CONFIGURATION_CHECKSUM)
      {{- if $configuration.prune }}
      - --prune
      {{- end }}
    env:
      {{- include "prefect-worker.apiEnv" . | nindent 6 }}
      {{- with include "prefect-worker.clientPlugins" . }}
      {{- . | nindent 6 }}
      {{- end }}
      - name: CONFIGURATION_CHECKSUM
        valueFrom:
          fieldRef: {fieldPath: "metadata.annotations['{{ include "prefect-worker.configuration.annotation" . }}']"}
      - name: PREFECT_HOME
        value: /tmp/prefect
      - name: DO_NOT_TRACK
        value: "1"
      # Without an API it fails, instead of starting a server of its own.
      - name: PREFECT_SERVER_EPHEMERAL_ENABLED
        value: "false"
    resources:
      {{- toYaml $configuration.resources | nindent 6 }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      {{- with include "prefect-worker.apiVolumeMounts" . }}
      {{- . | nindent 6 }}
      {{- end }}
      - {name: platform, mountPath: /etc/prefect-platform/platform, readOnly: true}
      - {name: templates, mountPath: /etc/prefect-platform/base-job-templates, readOnly: true}
      {{- range $index, $secret := $configuration.secrets }}
      - {name: secret-{{ $index }}, mountPath: /etc/prefect-platform/secrets/{{ $secret }}, readOnly: true}
      {{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  {{- with include "prefect-worker.apiVolumes" (dict "root" $ "part" "configuration") }}
  {{- . | nindent 2 }}
  {{- end }}
  - name: platform
    configMap: {name: {{ include "prefect-library.fullname" . }}-configuration}
  - name: templates
    configMap: {name: {{ include "prefect-library.fullname" . }}-base-job-template}
  # One that is not there is named by the program, with the line that refers to it.
  {{- range $index, $secret := $configuration.secrets }}
  - name: secret-{{ $index }}
    secret: {secretName: {{ $secret }}, optional: true}
  {{- end }}
{{- end -}}
