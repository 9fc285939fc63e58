{{/*
Names, labels, security and environment that several objects share. Lists are passed as (list $ "component").
*/}}

{{/* Name of an object of a component: RELEASE-COMPONENT. Other programs are told these names, so nothing shortens them. */}}
{{- define "affinage.fullname" -}}
{{- $root := index . 0 -}}
{{- printf "%s-%s" $root.Release.Name (index . 1) -}}
{{- end -}}

{{/* What a selector may name: these three can never change. */}}
{{- define "affinage.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of an object. */}}
{{- define "affinage.labels" -}}
{{- $root := index . 0 -}}
{{ include "affinage.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: affinage
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Labels of a pod: no chart version, so that a new chart restarts only what it changes. */}}
{{- define "affinage.podLabels" -}}
{{ include "affinage.selector" . }}
app.kubernetes.io/part-of: affinage
{{- end -}}

{{/* Reference of an image. (list $ IMAGE): the version is the chart's unless a tag or a digest is given. */}}
{{- define "affinage.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- if and $image.digest $image.tag -}}
{{- printf "%s:%s@%s" $image.repository $image.tag $image.digest -}}
{{- else if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The restricted standard, for a pod. */}}
{{- define "affinage.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The restricted standard, for a container; also a root that nothing can write to. */}}
{{- define "affinage.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What every pod has: its account without a token, its security, its place. (list $ ACCOUNT VALUES). */}}
{{- define "affinage.pod" -}}
{{- $root := index . 0 -}}
{{- $values := index . 2 -}}
serviceAccountName: {{ include "affinage.fullname" (list $root (index . 1)) }}
automountServiceAccountToken: false
# Without this, a release named `affinage` would find AFFINAGE_GATEWAY_PORT=tcp://... in its environment, and refuse it.
enableServiceLinks: false
securityContext:
  {{- include "affinage.podSecurityContext" $root | nindent 2 }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $tolerations := include "affinage.tolerations" $values | fromYamlArray }}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A pod that asks for a GPU tolerates the taint of the nodes that have one. */}}
{{- define "affinage.tolerations" -}}
{{- $tolerations := default list .tolerations -}}
{{- if .gpus -}}
{{- $tolerations = append $tolerations (dict "key" "nvidia.com/gpu" "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- toYaml $tolerations -}}
{{- end -}}

{{/* Replicas on different nodes where there are some; never at the price of not running. */}}
{{- define "affinage.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "affinage.selector" . | nindent 8 }}
{{- end -}}

{{/* A new pod is ready before an old one goes. */}}
{{- define "affinage.strategy" -}}
type: RollingUpdate
rollingUpdate:
  maxUnavailable: 0
  maxSurge: 1
{{- end -}}

{{/* Resources; a GPU is requested exactly as it is limited. */}}
{{- define "affinage.resources" -}}
{{- $resources := deepCopy (default dict .resources) -}}
{{- if .gpus -}}
{{- range $bound := list "requests" "limits" -}}
{{- $_ := set $resources $bound (merge (dict "nvidia.com/gpu" (int $.gpus | toString)) (default dict (index $resources $bound))) -}}
{{- end -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* The endpoint sees that a pod goes some seconds after the pod does: it serves on meanwhile. */}}
{{- define "affinage.preStop" -}}
{{- with int .preStopSleepSeconds }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ . }}
{{- end }}
{{- end -}}

{{/* Seconds from the first word to a pod that it is to end until it is killed: 45 s is the gateway's own drain. */}}
{{- define "affinage.gracePeriodSeconds" -}}
{{- add (int .preStopSleepSeconds) 45 10 -}}
{{- end -}}

{{/* Probe that waits for the process to have started. (list PATH PORT SECONDS). */}}
{{- define "affinage.startupProbe" -}}
startupProbe:
  httpGet:
    path: {{ index . 0 }}
    port: {{ index . 1 }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ divf (int (index . 2)) 5 | ceil | int }}
{{- end -}}

{{/* Probes of a process that has started. (list LIVE READY PORT). */}}
{{- define "affinage.probes" -}}
livenessProbe:
  httpGet:
    path: {{ index . 0 }}
    port: {{ index . 2 }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: {{ index . 1 }}
    port: {{ index . 2 }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end -}}

{{/* The folders that a process may write to; both end with the pod. */}}
{{- define "affinage.volumeMounts" -}}
- name: home
  mountPath: /var/lib/affinage
- name: tmp
  mountPath: /tmp
{{- end -}}

{{- define "affinage.volumes" -}}
- name: home
  emptyDir:
    {{- if .homeSize }}
    sizeLimit: {{ .homeSize }}
    {{- else }} {}
    {{- end }}
- name: tmp
  emptyDir: {}
{{- end -}}

{{/* A volume claim that a pod only reads, where it is given. (list NAME CLAIM), and (list NAME CLAIM PATH). */}}
{{- define "affinage.claim.volume" -}}
{{- with index . 1 }}
- name: {{ index $ 0 }}
  persistentVolumeClaim:
    claimName: {{ . }}
    readOnly: true
{{- end }}
{{- end -}}

{{- define "affinage.claim.volumeMount" -}}
{{- with index . 1 }}
- name: {{ index $ 0 }}
  mountPath: {{ index $ 2 }}
  readOnly: true
{{- end }}
{{- end -}}

{{/* A pool of generators: the weights of its base, and the packages that the image leaves out. (list $ POOL) */}}
{{- define "affinage.generator.volumes" -}}
{{- $root := index . 0 -}}
{{- $pool := index . 1 -}}
{{ include "affinage.volumes" $pool }}
{{- include "affinage.claim.volume" (list "weights" $pool.weights.existingClaim) }}
{{- include "affinage.claim.volume" (list "packages" $root.Values.packages.existingClaim) }}
{{- if eq $pool.runtime "vllm" }}
# The processes of vLLM pass 0.4 GB round there; a container has 64 MB. It counts as memory of the pod.
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: 1Gi
{{- end }}
{{- end -}}

{{- define "affinage.generator.volumeMounts" -}}
{{- $root := index . 0 -}}
{{- $pool := index . 1 -}}
{{ include "affinage.volumeMounts" $root }}
{{- include "affinage.claim.volumeMount" (list "weights" $pool.weights.existingClaim "/weights") }}
{{- include "affinage.claim.volumeMount" (list "packages" $root.Values.packages.existingClaim "/opt/packages") }}
{{- if eq $pool.runtime "vllm" }}
- name: shm
  mountPath: /dev/shm
{{- end }}
{{- end -}}

{{/* The worker and the jobs of flows: the same, and the documents of folder sources. */}}
{{- define "affinage.flows.volumes" -}}
{{ include "affinage.volumes" .Values.worker }}
{{- include "affinage.claim.volume" (list "documents" .Values.worker.documents.existingClaim) }}
{{- include "affinage.claim.volume" (list "weights" .Values.worker.weights.existingClaim) }}
{{- include "affinage.claim.volume" (list "packages" .Values.packages.existingClaim) }}
{{- end -}}

{{- define "affinage.flows.volumeMounts" -}}
{{ include "affinage.volumeMounts" . }}
{{- include "affinage.claim.volumeMount" (list "documents" .Values.worker.documents.existingClaim "/srv/documents") }}
{{- include "affinage.claim.volumeMount" (list "weights" .Values.worker.weights.existingClaim "/weights") }}
{{- include "affinage.claim.volumeMount" (list "packages" .Values.packages.existingClaim "/opt/packages") }}
{{- end -}}

{{/* The pools, by name, with every field given. */}}
{{- define "affinage.generators" -}}
{{- $pools := dict -}}
{{- range $name, $given := .Values.generators -}}
{{- /* Helm takes a null away only where it hides a default of the chart. */}}
{{- if not (kindIs "invalid" $given) -}}
{{- $_ := set $pools $name (mergeOverwrite (include "affinage.generatorDefaults" $ | fromYaml) (deepCopy $given)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $pools -}}
{{- end -}}

{{/* What a pool that does not say otherwise gets; values.yaml shows the same in the pool `smollm2`. */}}
{{- define "affinage.generatorDefaults" -}}
engine: package:smollm2
runtime: transformers
precision: bfloat16
replicas: 1
gpus: 0
weights:
  existingClaim: ""
  folder: ""
startupSeconds: 600
minReadySeconds: 30
preStopSleepSeconds: 5
homeSize: 2Gi
logLevel: INFO
nodeSelector: {}
tolerations: []
image: {}
resources:
  requests:
    cpu: "1"
    memory: 2Gi
  limits:
    cpu: "4"
    memory: 4Gi
{{- end -}}

{{/* Port of an address: as written, or the scheme's. */}}
{{- define "affinage.port" -}}
{{- $url := urlParse . -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- if $port -}}{{ $port }}{{- else if eq $url.scheme "http" -}}80{{- else -}}443{{- end -}}
{{- end -}}

{{/* Image of a pool. A version that a pool names is its own: the common digest must not silently win over it. (list $ POOL). */}}
{{- define "affinage.generatorImage" -}}
{{- $image := deepCopy (index . 0).Values.images.generator -}}
{{- $own := (index . 1).image -}}
{{- if or $own.repository $own.tag $own.digest -}}
{{- $_ := set $image "tag" "" -}}
{{- $_ := set $image "digest" "" -}}
{{- end -}}
{{- toYaml (mergeOverwrite $image (deepCopy $own)) -}}
{{- end -}}

{{/* What the pods of a pool load: the packaged model, or a folder of the mounted weights. */}}
{{- define "affinage.generatorWeights" -}}
{{- if or (hasPrefix "package:" .engine) (hasPrefix "/" .engine) -}}
{{- .engine -}}
{{- else -}}
{{- printf "/weights/%s" (default (splitList ":" .engine | last) .weights.folder) -}}
{{- end -}}
{{- end -}}

{{/* `yes` when a job tells Prefect which flows run when: there is somebody to run them. */}}
{{- define "affinage.scheduled" -}}
{{- if and .Values.worker.schedules.enabled (or .Values.worker.enabled .Values.worker.jobTemplate.enabled) -}}yes{{- end -}}
{{- end -}}

{{/* Not empty when the values declare something. Nothing declared removes nothing: an empty list is more often forgotten than meant. */}}
{{- define "affinage.declared" -}}
{{- if or .Values.declarations.sources .Values.declarations.assistants .Values.declarations.roles -}}yes{{- end -}}
{{- end -}}
