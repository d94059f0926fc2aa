{{- /*
Refuses combinations of values that would install and then fail or do harm. Each message says what
is wrong, why, and what to set. The schema checks types and unknown keys.
*/ -}}
{{- define "prefect-server.validation" -}}
{{- include "prefect-library.validateImage" (dict "root" $ "key" "image" "image" .Values.image) -}}

{{- if and .Values.migrations.mayLose (not .Values.migrations.revision) -}}
{{- fail "migrations.mayLose is set, but migrations.revision is not: the next downgrade would drop rows without confirmation; remove it, for example with --set migrations.mayLose=null" -}}
{{- end -}}

{{- if eq .Values.mode "single" -}}
{{- range $component := list "api" "backgroundServices" -}}
{{- $replicas := int (get $.Values $component).replicas -}}
{{- if gt $replicas 1 -}}
{{- fail (printf "%s.replicas is %d, but in mode single messaging is in memory: each pod would run its own background services and see only its own events; set mode=ha, which brings Redis, or %s.replicas=1" $component $replicas $component) -}}
{{- end -}}
{{- end -}}
{{- if .Values.api.autoscaling.enabled -}}
{{- fail "api.autoscaling.enabled is true, but mode single allows only one pod; set mode=ha, which brings Redis" -}}
{{- end -}}
{{- if .Values.redis.external.urlSecret.name -}}
{{- fail "redis.external.urlSecret.name is set, but mode single uses no Redis; set mode=ha" -}}
{{- end -}}
{{- else -}}
{{- if eq .Values.redis.mode "embedded" -}}
{{- include "prefect-library.validateImage" (dict "root" $ "key" "redis.embedded.image" "image" .Values.redis.embedded.image) -}}
{{- if .Values.redis.external.urlSecret.name -}}
{{- fail "redis.external.urlSecret.name is set, but redis.mode is embedded: set redis.mode=external, or clear redis.external.urlSecret.name" -}}
{{- end -}}
{{- else if not .Values.redis.external.urlSecret.name -}}
{{- fail "redis.mode is external, but no Redis is named: set redis.external.urlSecret.name" -}}
{{- end -}}
{{- if gt (int .Values.api.autoscaling.minReplicas) (int .Values.api.autoscaling.maxReplicas) -}}
{{- fail (printf "api.autoscaling.minReplicas is %d, which is more than api.autoscaling.maxReplicas, %d: lower minReplicas, or raise maxReplicas" (int .Values.api.autoscaling.minReplicas) (int .Values.api.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- end -}}

{{- $pool := int (include "prefect-server.database.poolPerProcess" .) -}}
{{- if lt $pool 5 -}}
{{- fail (printf "the database has %s connections, which leaves %d for each process of the API and the background services, but Prefect needs 5: raise database.%s, or lower api.replicas, api.autoscaling.maxReplicas or backgroundServices.replicas" (include "prefect-server.database.maxConnections" .) $pool (get (dict "embedded" "embedded.parameters.max_connections" "cloudnative-pg" "cloudnativePg.parameters.max_connections" "external" "external.maxConnections") .Values.database.mode)) -}}
{{- end -}}

{{- $own := printf "%s.%s" (include "prefect-library.fullname" .) .Release.Namespace -}}
{{- with .Values.auth.runIdentity -}}
{{- if and (eq $.Values.profile "production") .enabled (eq .audience "prefect-server.prefect") (ne .audience $own) -}}
{{- fail (printf "auth.runIdentity.audience has the default, prefect-server.prefect, but this server is %s: if another server of the cluster has the default, too, each accepts the tokens of the other; set auth.runIdentity.audience=%s in both charts" $own $own) -}}
{{- end -}}
{{- end -}}

{{- if and .Values.auth.workers (not .Values.auth.runIdentity.enabled) -}}
{{- fail "auth.workers is set, but auth.runIdentity.enabled is false, so that the API would refuse these workers: turn run identity on, or give the workers the auth string and clear auth.workers" -}}
{{- end -}}

{{- if not .Values.auth.secret.name -}}
{{- fail "auth.secret.name is empty: without authentication everyone who can reach the API could read every block; name a Secret that holds \"user:password\"" -}}
{{- end -}}

{{- if not .Values.encryption.secret.name -}}
{{- fail "encryption.secret.name is empty: Prefect would keep the encryption key of the blocks in the same database; name a Secret that holds a Fernet key" -}}
{{- end -}}

{{- $tls := .Values.api.tls -}}
{{- $certificate := or $tls.secret.name $tls.certManager.issuerRef.name -}}
{{- if and $tls.enabled (not $certificate) -}}
{{- fail "api.tls.enabled is true, but no certificate is named: set api.tls.secret.name, or api.tls.certManager.issuerRef.name if cert-manager is installed" -}}
{{- end -}}
{{- if and $certificate (not $tls.enabled) -}}
{{- fail "api.tls names a certificate, but api.tls.enabled is false, so the API would serve plain HTTP: set api.tls.enabled=true, or clear the names" -}}
{{- end -}}
{{- if and $tls.secret.name $tls.certManager.issuerRef.name -}}
{{- fail "api.tls.secret.name and api.tls.certManager.issuerRef.name are both set, but the API serves only one certificate: clear one of them" -}}
{{- end -}}

{{- $database := .Values.database -}}
{{- if eq $database.mode "embedded" -}}
{{- include "prefect-library.validateImage" (dict "root" $ "key" "database.embedded.image" "image" $database.embedded.image) -}}
{{- if eq .Values.profile "production" -}}
{{- fail "database.mode is embedded, but profile is production: one pod with one volume is lost with its node; set database.mode=external or database.mode=cloudnative-pg" -}}
{{- end -}}
{{- else if eq $database.mode "cloudnative-pg" -}}
{{- if and (eq .Values.profile "production") (lt (int $database.cloudnativePg.instances) 2) -}}
{{- fail "database.cloudnativePg.instances is 1, but profile is production: one instance is lost with its node; set at least 2" -}}
{{- end -}}
{{- if ne $database.passwordSecret.key "password" -}}
{{- fail (printf "database.passwordSecret.key is %s, but in mode cloudnative-pg the operator reads the same Secret as kubernetes.io/basic-auth; set it to password" $database.passwordSecret.key) -}}
{{- end -}}
{{- end -}}

{{- $tls := $database.external.tls -}}
{{- if ne $database.mode "external" -}}
{{- if or $database.external.host $database.external.connectionUrlSecret.name $tls.caSecret.name $tls.clientCertificateSecret.name -}}
{{- fail (printf "database.external is set, but database.mode is %s: set database.mode=external, or clear the values below database.external" $database.mode) -}}
{{- end -}}
{{- else -}}
{{- if and (hasPrefix "verify-" $tls.mode) (not $tls.caSecret.name) -}}
{{- fail (printf "database.external.tls.mode is %s, but no certificate authority is named, and the system's are not used: set database.external.tls.caSecret.name" $tls.mode) -}}
{{- end -}}
{{- if and (has $tls.mode (list "disable" "prefer")) (or $tls.caSecret.name $tls.clientCertificateSecret.name) -}}
{{- fail (printf "database.external.tls names certificates, but its mode is %s, which allows connections without TLS: set database.external.tls.mode=verify-full, or clear caSecret.name and clientCertificateSecret.name" $tls.mode) -}}
{{- end -}}
{{- if and (eq .Values.profile "production") (has $tls.mode (list "disable" "prefer")) -}}
{{- fail (printf "database.external.tls.mode is %s, but profile is production: passwords and blocks could cross the network in the clear; set it to require, or better to verify-full" $tls.mode) -}}
{{- end -}}
{{- if and $database.external.host $database.external.connectionUrlSecret.name -}}
{{- fail "database.external.host and database.external.connectionUrlSecret.name are both set, but only one database can be used: clear one of them" -}}
{{- end -}}
{{- if not (or $database.external.host $database.external.connectionUrlSecret.name) -}}
{{- fail "database.mode is external, but no database is named: set database.external.host or database.external.connectionUrlSecret.name" -}}
{{- end -}}
{{- end -}}

{{- if and (eq .Values.profile "production") (kindIs "invalid" .Values.notifications.hosts) -}}
{{- fail "notifications.hosts is not set, but profile is production: whoever may write automations could make the server send requests to every host that its NetworkPolicy allows; list the hosts of your notification and webhook blocks, set [] for none, or set any" -}}
{{- end -}}

{{- $retention := .Values.retention -}}
{{- $types := dict -}}
{{- range $type, $period := $retention.events.byType -}}
{{- $_ := set $types (printf "events.byType.%s" $type) $period -}}
{{- end -}}
{{- $periods := merge (dict "flowRuns" $retention.flowRuns "unfinishedRuns" $retention.unfinishedRuns "events.default" $retention.events.default "logs" $retention.logs "artifacts" $retention.artifacts) $types -}}
{{- range $key, $period := $periods -}}
{{- if le (include "prefect-library.seconds" $period | int64) 3600 -}}
{{- fail (printf "retention.%s is %s, but data that is an hour old may still be in use: set more than 1h" $key $period) -}}
{{- end -}}
{{- end -}}
{{- range $key, $period := $types -}}
{{- if gt (include "prefect-library.seconds" $period | int64) (include "prefect-library.seconds" $retention.events.default | int64) -}}
{{- fail (printf "retention.%s is %s, but every event is deleted after %s: raise retention.events.default" $key $period $retention.events.default) -}}
{{- end -}}
{{- end -}}
{{- range $key, $period := pick $periods "logs" "artifacts" -}}
{{- if gt (include "prefect-library.seconds" $period | int64) (include "prefect-library.seconds" $retention.flowRuns | int64) -}}
{{- fail (printf "retention.%s is %s, but they are deleted with their flow run after %s: set at most that, or raise retention.flowRuns" $key $period $retention.flowRuns) -}}
{{- end -}}
{{- end -}}
{{- range $key, $period := pick $periods "flowRuns" "unfinishedRuns" -}}
{{- if lt (include "prefect-library.seconds" $retention.objects.results | int64) (include "prefect-library.seconds" $period | int64) -}}
{{- fail (printf "retention.objects.results is %s, but runs are kept for %s: their states would refer to deleted results; set at least retention.%s" $retention.objects.results $period $key) -}}
{{- end -}}
{{- end -}}

{{- range .Values.extraEnv -}}
{{- $pool := and (hasPrefix "PREFECT_SERVER_DATABASE_SQLALCHEMY_" .name) (not (contains "_TLS_" .name)) -}}
{{- $database := regexMatch "^(PREFECT_SERVER_DATABASE_|PREFECT_API_DATABASE_|PGSSL)" .name -}}
{{- if and $database (not $pool) -}}
{{- fail (printf "extraEnv sets %s, which the migration Job would not see: set the values under database" .name) -}}
{{- end -}}
{{- if has .name (list "PREFECT_SERVER_API_AUTH_STRING" "PREFECT_SERVER_ENCRYPTION_KEY") -}}
{{- fail (printf "extraEnv sets %s, which comes from a Secret: set the values under auth and encryption" .name) -}}
{{- end -}}
{{- if regexMatch "^PREFECT_(SERVER_SERVICES_DB_VACUUM_|(SERVER_)?EVENTS_RETENTION_PERIOD$)" .name -}}
{{- fail (printf "extraEnv sets %s, which the retention sweep and the buckets would not follow: set the values under retention" .name) -}}
{{- end -}}
{{- if or (hasPrefix "PREFECT_PLUGINS_" .name) (eq .name "NOTIFICATION_HOSTS") -}}
{{- fail (printf "extraEnv sets %s, with which the chart's plugins would not protect the server: remove it, and set the values under auth, api.tls and notifications" .name) -}}
{{- end -}}
{{- if hasPrefix "PREFECT_SERVER_UI_" .name -}}
{{- fail (printf "extraEnv sets %s, which the chart derives from other values: set publicUrl and ui" .name) -}}
{{- end -}}
{{- if eq .name "PREFECT_SERVER_API_BASE_PATH" -}}
{{- fail (printf "extraEnv sets %s, which the probes, the Ingress and the HTTPRoute would not follow: set publicUrl" .name) -}}
{{- end -}}
{{- end -}}

{{- if hasSuffix "/v2" (include "prefect-server.pathPrefix" .) -}}
{{- fail "publicUrl ends in /v2, where Prefect serves its second user interface: choose another path" -}}
{{- end -}}

{{- $publicHost := include "prefect-server.publicHost" . -}}
{{- $publicHosts := list $publicHost (printf "*%s" (regexFind "[.].*" $publicHost)) -}}
{{- if .Values.ingress.enabled -}}
{{- $host := .Values.ingress.host -}}
{{- if not (or $host $publicHost) -}}
{{- fail "ingress.enabled is true, but no host is named, so the Ingress would match every host of its controller: set publicUrl, or ingress.host" -}}
{{- end -}}
{{- if and $host $publicHost (not (has $host $publicHosts)) -}}
{{- fail (printf "ingress.host is %s, but publicUrl points to %s: links would not reach the Ingress; clear ingress.host, or correct publicUrl" $host $publicHost) -}}
{{- end -}}
{{- if and .Values.ingress.tls.secretName (not (hasPrefix "https://" .Values.publicUrl)) -}}
{{- fail "ingress.tls.secretName is set, but publicUrl is not https: links would not use TLS; set publicUrl=https://HOST" -}}
{{- end -}}
{{- end -}}
{{- if .Values.httpRoute.enabled -}}
{{- $hostnames := .Values.httpRoute.hostnames -}}
{{- if not .Values.httpRoute.parentRefs -}}
{{- fail "httpRoute.enabled is true, but no Gateway is named: set httpRoute.parentRefs" -}}
{{- end -}}
{{- if not (or $hostnames $publicHost) -}}
{{- fail "httpRoute.enabled is true, but no host is named, so the HTTPRoute would match every host of its Gateway: set publicUrl, or httpRoute.hostnames" -}}
{{- end -}}
{{- if and $hostnames $publicHost (not (or (has (first $publicHosts) $hostnames) (has (last $publicHosts) $hostnames))) -}}
{{- fail (printf "httpRoute.hostnames does not contain %s, the host of publicUrl: links would not reach the HTTPRoute; add it, or correct publicUrl" $publicHost) -}}
{{- end -}}
{{- end -}}

{{- with .Values.networkPolicies -}}
{{- if and (eq $.Values.profile "production") $.Values.auth.runIdentity.enabled .enabled .components.api (not .kubernetesApi.to) -}}
{{- fail "networkPolicies.kubernetesApi.to is empty, but profile is production: the API, which asks Kubernetes about the tokens of pods, could connect to the ports of networkPolicies.kubernetesApi at every address; set it to the addresses of the control plane, which `kubectl get endpointslices kubernetes` shows" -}}
{{- end -}}
{{- end -}}

{{- with include "prefect-server.waysIn" . -}}
{{- $policies := $.Values.networkPolicies -}}
{{- if and $policies.enabled $policies.components.api (not $policies.apiProxies) -}}
{{- fail (printf "%s, but the API's NetworkPolicy allows no connections from outside: list the pods of the ingress controller or gateway, or the addresses of the clients, in networkPolicies.apiProxies" .) -}}
{{- end -}}
{{- if and (eq $.Values.profile "production") (not (hasPrefix "https://" $.Values.publicUrl)) -}}
{{- fail (printf "%s, but profile is production and publicUrl is not https: the password would cross the network in the clear; terminate TLS in front of the Service, and set publicUrl=https://HOST" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
