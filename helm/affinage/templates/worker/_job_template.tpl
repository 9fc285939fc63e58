{{/*
Base job template of a Prefect work pool of type `kubernetes`, as YAML. What stands in doubled braces is filled in by Prefect
for each run; it puts its own variables before those of `env`.
*/}}
{{- define "affinage.jobTemplate" -}}
variables:
  type: object
  properties:
    name: {type: string, title: Name, description: Name given to the job of a run.}
    command: {type: string, title: Command, description: Command of the run; normally left to Prefect.}
    env: {type: object, title: Environment, additionalProperties: {type: string}}
    namespace: {type: string, title: Namespace, default: {{ .Release.Namespace }}}
    image: {type: string, title: Image, default: {{ include "affinage.image" (list . .Values.images.worker) | quote }}}
    finished_job_ttl: {type: integer, title: Seconds that a finished job is kept, default: 86400}
    job_watch_timeout_seconds: {type: integer, title: Seconds that a job may take}
    pod_watch_timeout_seconds: {type: integer, title: Seconds that a pod may take to start, default: 600}
    stream_output: {type: boolean, title: Stream output, default: true}
job_configuration:
  name: "{{ "{{ name }}" }}"
  command: "{{ "{{ command }}" }}"
  env: "{{ "{{ env }}" }}"
  # On the job and its pod. Given here they win over Prefect's, which would name the pod after its flow: no policy would know it.
  labels:
    {{- include "affinage.podLabels" (list . "flow") | nindent 4 }}
  namespace: "{{ "{{ namespace }}" }}"
  stream_output: "{{ "{{ stream_output }}" }}"
  job_watch_timeout_seconds: "{{ "{{ job_watch_timeout_seconds }}" }}"
  pod_watch_timeout_seconds: "{{ "{{ pod_watch_timeout_seconds }}" }}"
  job_manifest:
    apiVersion: batch/v1
    kind: Job
    metadata:
      generateName: "{{ "{{ name }}" }}-"
      namespace: "{{ "{{ namespace }}" }}"
    spec:
      # A run that fails is retried by its flow, which knows why.
      backoffLimit: 0
      ttlSecondsAfterFinished: "{{ "{{ finished_job_ttl }}" }}"
      template:
        metadata:
          labels:
            {{- include "affinage.podLabels" (list . "flow") | nindent 12 }}
        spec:
          {{- include "affinage.pod" (list . "platform" .Values.worker) | nindent 10 }}
          restartPolicy: Never
          # Prefect refuses a template without these two at this place, where the API server knows no such fields and drops them.
          parallelism: 1
          completions: 1
          containers:
            - name: prefect-job
              image: "{{ "{{ image }}" }}"
              imagePullPolicy: {{ .Values.images.worker.pullPolicy }}
              terminationMessagePolicy: FallbackToLogsOnError
              args: "{{ "{{ command }}" }}"
              workingDir: /app/flows
              securityContext:
                {{- include "affinage.containerSecurityContext" . | nindent 16 }}
              env:
                {{- include "affinage.environment.process" (list . .Values.worker.logLevel) | nindent 16 }}
                {{- include "affinage.environment.database" . | nindent 16 }}
                {{- include "affinage.environment.serving" . | nindent 16 }}
                {{- include "affinage.environment.registry" . | nindent 16 }}
                {{- include "affinage.environment.flows" . | nindent 16 }}
                {{- with include "affinage.environment.connections" . | trim }}
                {{- . | nindent 16 }}
                {{- end }}
                {{- include "affinage.environment.torch" . | nindent 16 }}
              resources:
                {{- include "affinage.resources" .Values.worker | nindent 16 }}
              volumeMounts:
                {{- include "affinage.flows.volumeMounts" . | nindent 16 }}
          volumes:
            {{- include "affinage.flows.volumes" . | nindent 12 }}
{{- end -}}
