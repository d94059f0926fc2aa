{{/*
A value as a CEL literal. CEL wants the values of a map or list to have one type, which dyn() gives.
*/}}
{{- define "prefect-worker.celLiteral" -}}
{{- if kindIs "map" . -}}
{{- $items := list -}}
{{- range $key, $value := . -}}
{{- $items = append $items (printf "%s: dyn(%s)" (toJson $key) (include "prefect-worker.celLiteral" $value)) -}}
{{- end -}}
{ {{- join ", " $items -}} }
{{- else if kindIs "slice" . -}}
{{- $items := list -}}
{{- range . -}}
{{- $items = append $items (printf "dyn(%s)" (include "prefect-worker.celLiteral" .)) -}}
{{- end -}}
[{{ join ", " $items }}]
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end -}}

{{/*
A CEL expression: whether the field at "path" has all of "value". Other keys may be there too, because
Kubernetes adds defaults. Takes also "key", the name of the field. A text that the template fills from
a job variable is free. The audience of a run's token ends with the id in the Job's label.
*/}}
{{- define "prefect-worker.celContains" -}}
{{- $all := list -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- $path := printf "%s.%s" $.path $key -}}
{{- $all = append $all (printf "has(%s) && %s" $path (include "prefect-worker.celContains" (dict "path" $path "key" $key "value" $value))) -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- $all = append $all (printf "size(%s) == %d" .path (len .value)) -}}
{{- range $index, $value := .value -}}
{{- $all = append $all (include "prefect-worker.celContains" (dict "path" (printf "%s[%d]" $.path $index) "key" "" "value" $value)) -}}
{{- end -}}
{{- else if and (eq .key "audience") (hasSuffix "/flow-runs/" (toString .value)) -}}
{{- $run := "object.metadata.?labels[?'prefect.io/flow-run-id'].orValue('')" -}}
{{- $all = append $all (printf "%s == %s + %s" .path (toJson .value) $run) -}}
{{- else if contains "{{" (toString .value) -}}
{{- $all = append $all "true" -}}
{{- else if has .key (list "sizeLimit" "storage") -}}
{{- $all = append $all (printf "quantity(%s).compareTo(quantity(%s)) == 0" .path (toString .value | toJson)) -}}
{{- else -}}
{{- $all = append $all (printf "%s == %s" .path (toJson .value)) -}}
{{- end -}}
{{- join " && " $all | default "true" -}}
{{- end -}}

{{/*
A CEL expression: the paths of the fields of an object that are not as in the template. Takes "path"
(the object in CEL), "at" (the object in messages), "declared" (the object in the template) and
"fields". A field that the template fills from a job variable is free.
*/}}
{{- define "prefect-worker.celDiffering" -}}
{{- $absent := list -}}
{{- $all := list -}}
{{- range $field := .fields -}}
{{- $literal := get $.declared $field | include "prefect-worker.celLiteral" -}}
{{- if not (hasKey $.declared $field) -}}
{{- $absent = append $absent (squote $field) -}}
{{- else if not (contains "{{" $literal) -}}
{{- $path := printf "%s.%s" $.path $field -}}
{{- $all = append $all (printf "(has(%s) && dyn(%s) == %s ? [] : ['%s.%s'])" $path $path $literal $.at $field) -}}
{{- end -}}
{{- end -}}
{{- $found := printf "[%s].filter(f, f in dyn(%s))" (join ", " $absent) .path -}}
{{- prepend $all (printf "%s.map(f, '%s.' + f)" $found .at) | join " +\n" -}}
{{- end -}}

{{/* A CEL expression: whether a Job may use `image`. Takes (dict "root" $ "pool" POOL). */}}
{{- define "prefect-worker.celImage" -}}
{{- $registry := .root.Values.global.imageRegistry | default .pool.jobs.image.registry -}}
{{- $any := list -}}
{{- range prepend .pool.jobs.allowedImages (printf "%s/%s" $registry .pool.jobs.image.repository) -}}
{{- if hasSuffix "/" . -}}
{{- $any = append $any (printf "variables.container.image.startsWith(%s)" (toJson .)) -}}
{{- else -}}
{{- $any = append $any (printf "variables.container.image == %s" (toJson .)) -}}
{{- $any = append $any (printf "variables.container.image.startsWith(%s)" (printf "%s:" . | toJson)) -}}
{{- $any = append $any (printf "variables.container.image.startsWith(%s)" (printf "%s@" . | toJson)) -}}
{{- end -}}
{{- end -}}
{{- join " || " $any -}}
{{- end -}}

{{/* A CEL expression: whether the volume `v` is one of the template's. Takes the template's volumes. */}}
{{- define "prefect-worker.celVolume" -}}
{{- $any := list -}}
{{- range . -}}
{{- $any = append $any (printf "(%s)" (include "prefect-worker.celContains" (dict "path" "v" "key" "" "value" .))) -}}
{{- end -}}
{{- join " || " $any | default "false" -}}
{{- end -}}

{{/* A CEL expression: whether the variable `e` is one of the template's references. Takes their list. */}}
{{- define "prefect-worker.celReference" -}}
{{- $any := list "!has(e.valueFrom)" -}}
{{- range . -}}
{{- if .valueFrom -}}
{{- $any = append $any (printf "(%s)" (include "prefect-worker.celContains" (dict "path" "e" "key" "" "value" (pick . "name" "valueFrom")))) -}}
{{- end -}}
{{- end -}}
{{- join " || " $any -}}
{{- end -}}
