{{/*
Environment of the processes. It stands in the pod and not in a ConfigMap, so that a pod of an old revision which restarts in
the middle of a failed upgrade still finds the environment of its revision.
*/}}

{{/* Every process. (list $ LOG_LEVEL). */}}
{{- define "affinage.environment.process" -}}
- name: AFFINAGE_HOME
  value: /var/lib/affinage
- name: AFFINAGE_CACHE
  value: /var/lib/affinage/cache
- name: AFFINAGE_LOG_FORMAT
  value: json
- name: AFFINAGE_LOG_LEVEL
  value: {{ index . 1 }}
- name: HOME
  value: /tmp
# No library calls home.
- name: DO_NOT_TRACK
  value: "1"
- name: HF_HUB_OFFLINE
  value: "1"
- name: BENTOML_DO_NOT_TRACK
  value: "True"
- name: MLFLOW_DISABLE_TELEMETRY
  value: "true"
- name: PREFECT_SERVER_ANALYTICS_ENABLED
  value: "false"
{{- end -}}

{{/* The record of truth. */}}
{{- define "affinage.environment.database" -}}
- name: AFFINAGE_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.existingSecret }}
      key: {{ .Values.database.key }}
{{- end -}}

{{/* Vectors, files, embedder and generators: what answers a question. */}}
{{- define "affinage.environment.serving" -}}
- name: AFFINAGE_VECTORS_URL
  value: {{ .Values.vectors.url | quote }}
- name: AFFINAGE_VECTORS_GRPC_PORT
  value: {{ int .Values.vectors.grpcPort | quote }}
{{- with .Values.vectors.existingSecret }}
- name: AFFINAGE_VECTORS_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $.Values.vectors.key }}
{{- end }}
- name: AFFINAGE_BLOBS_URL
  value: {{ .Values.blobs.url | quote }}
{{- with .Values.blobs.endpointUrl }}
- name: AFFINAGE_S3_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.blobs.existingSecret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: AWS_ACCESS_KEY_ID
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: AWS_SECRET_ACCESS_KEY
{{- end }}
- name: AFFINAGE_EMBEDDER_URL
  value: http://{{ include "affinage.fullname" (list . "embedder") }}:3000
{{- $addresses := list }}
{{- range $name, $pool := include "affinage.generators" . | fromYaml }}
{{- $addresses = append $addresses (printf "%s=http://%s:3000" $pool.engine (include "affinage.fullname" (list $ (printf "generator-%s" $name)))) }}
{{- end }}
{{- with $addresses }}
- name: AFFINAGE_GENERATORS
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.gateway.egressHosts }}
- name: AFFINAGE_EGRESS_HOSTS
  value: {{ join "," . | quote }}
{{- end }}
{{- end -}}

{{/* The registry, for what registers, follows and loads adapters. */}}
{{- define "affinage.environment.registry" -}}
- name: AFFINAGE_REGISTRY_URL
  value: {{ .Values.registry.url | quote }}
{{- with .Values.registry.existingSecret }}
- name: MLFLOW_TRACKING_USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: MLFLOW_TRACKING_USERNAME
- name: MLFLOW_TRACKING_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: MLFLOW_TRACKING_PASSWORD
{{- end }}
{{- end -}}

{{/* Flows: where they are, what they may read, and who schedules them. */}}
{{- define "affinage.environment.flows" -}}
- name: AFFINAGE_FLOWS
  value: /app/flows
- name: AFFINAGE_SOURCE_ROOTS
  value: /srv/documents
- name: PREFECT_API_URL
  value: {{ .Values.prefect.apiUrl | quote }}
{{- with .Values.prefect.existingSecret }}
- name: PREFECT_API_AUTH_STRING
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: PREFECT_API_AUTH_STRING
{{- end }}
- name: PREFECT_HOME
  value: /var/lib/affinage/prefect
- name: PREFECT_LOGGING_EXTRA_LOGGERS
  value: affinage
{{- end -}}

{{/* Databases that SQL sources name: only where syncs run. */}}
{{- define "affinage.environment.connections" -}}
{{- range $name, $secret := .Values.worker.connections }}
- name: AFFINAGE_CONNECTION_{{ upper $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret.existingSecret }}
      key: {{ $secret.key }}
{{- end }}
{{- end -}}

{{/* A process that computes uses the cores it may use, and not all that the node has. */}}
{{- define "affinage.environment.threads" -}}
- name: AFFINAGE_THREADS
  valueFrom:
    resourceFieldRef:
      resource: limits.cpu
      divisor: "1"
- name: OMP_NUM_THREADS
  valueFrom:
    resourceFieldRef:
      resource: limits.cpu
      divisor: "1"
{{- end -}}

{{/* A process that computes with torch, which its image may leave out. */}}
{{- define "affinage.environment.torch" -}}
{{ include "affinage.environment.threads" . }}
{{- if .Values.packages.existingClaim }}
- name: PYTHONPATH
  value: /opt/packages
{{- end }}
{{- end -}}

{{/* BentoML keeps its metrics and sockets in its home; two services must not share one. */}}
{{- define "affinage.environment.bentoml" -}}
- name: BENTOML_HOME
  value: /var/lib/affinage/bentoml
{{- end -}}
