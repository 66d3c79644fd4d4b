{{- define "acecoder.name" -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "acecoder.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "acecoder.serviceAccount" -}}
{{- default (include "acecoder.name" .) .Values.serviceAccount.name -}}
{{- end -}}

{{/* The workers of a release: one a role, and one a device class, with all that tells them apart. */}}
{{- define "acecoder.workers" -}}
{{- $workers := list -}}
{{- range $role := list "pipeline" "llm" "sandbox" -}}
{{- $workers = append $workers (merge (dict "role" $role "id" $role "queue" (ternary $.Values.temporal.queue (printf "%s-%s" $.Values.temporal.queue $role) (eq $role "pipeline"))) (index $.Values.roles $role)) -}}
{{- end -}}
{{- range $gpu := .Values.gpu -}}
{{- $suffix := ternary (printf "-%s" $gpu.class) "" (ne $gpu.class "") -}}
{{- $workers = append $workers (merge (dict "role" "gpu" "id" (printf "gpu%s" $suffix) "queue" (printf "%s-gpu%s" $.Values.temporal.queue $suffix)) $gpu) -}}
{{- end -}}
{{- toJson $workers -}}
{{- end -}}

{{/* The pod of a worker. Takes a list of the root and the worker. */}}
{{- define "acecoder.pod" -}}
{{- $ := index . 0 -}}
{{- $worker := index . 1 -}}
metadata:
  labels:
    {{- include "acecoder.labels" $ | nindent 4 }}
    app.kubernetes.io/component: {{ $worker.id }}
  annotations:
    {{- with $.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    prometheus.io/scrape: 'true'
    prometheus.io/port: {{ $.Values.observability.metricsPort | quote }}
spec:
  serviceAccountName: {{ include "acecoder.serviceAccount" $ }}
  automountServiceAccountToken: false
  # The worker's own grace time ends first.
  terminationGracePeriodSeconds: {{ add $.Values.graceSeconds 10 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65534
    runAsGroup: 65534
    fsGroup: 65534
    {{- if $worker.seccomp }}
    seccompProfile: { type: Localhost, localhostProfile: {{ $worker.seccomp | quote }} }
    {{- else }}
    seccompProfile: { type: RuntimeDefault }
    {{- end }}
  {{- with $.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $worker.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $worker.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: worker
      image: {{ printf "%s:%s-%s" $.Values.image.repository $.Values.image.tag $worker.role | quote }}
      imagePullPolicy: {{ $.Values.image.pullPolicy }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      ports:
        - { name: metrics, containerPort: {{ $.Values.observability.metricsPort }} }
        - { name: health, containerPort: {{ $.Values.observability.healthPort }} }
      startupProbe:
        httpGet: { path: /healthz, port: health }
        periodSeconds: 5
        failureThreshold: 60
      livenessProbe:
        httpGet: { path: /healthz, port: health }
        periodSeconds: 20
        timeoutSeconds: 10
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /readyz, port: health }
        periodSeconds: 15
        timeoutSeconds: 5
      env:
        {{- include "acecoder.env" (list $ $worker) | nindent 8 }}
      envFrom:
        - secretRef: { name: {{ $.Values.store.secret | quote }} }
        {{- with $.Values.temporal.secret }}
        - secretRef: { name: {{ . | quote }} }
        {{- end }}
        {{- if and (eq $worker.role "llm") $.Values.llm.secret }}
        - secretRef: { name: {{ $.Values.llm.secret | quote }} }
        {{- end }}
      resources:
        {{- $resources := deepCopy $worker.resources }}
        {{- if eq $worker.role "gpu" }}
        {{- $limits := merge (dict $worker.resource $worker.gpus) (default dict $resources.limits) }}
        {{- $resources = merge (dict "limits" $limits) $resources }}
        {{- end }}
        {{- toYaml $resources | nindent 8 }}
      volumeMounts:
        - { name: home, mountPath: /home/acecoder }
        - { name: tmp, mountPath: /tmp }
        {{- if eq $worker.role "gpu" }}
        - { name: shm, mountPath: /dev/shm }
        {{- end }}
  volumes:
    # What is kept here is a copy of the store: a lost pod loses no work.
    - name: home
      emptyDir: { sizeLimit: {{ $worker.cache | quote }} }
    - name: tmp
      emptyDir: { sizeLimit: 2Gi }
    {{- if eq $worker.role "gpu" }}
    # Processes of one training talk through shared memory.
    - name: shm
      emptyDir: { medium: Memory, sizeLimit: 8Gi }
    {{- end }}
{{- end -}}

{{- define "acecoder.env" -}}
{{- $ := index . 0 -}}
{{- $worker := index . 1 -}}
- { name: TEMPORAL_ADDRESS, value: {{ $.Values.temporal.address | quote }} }
- { name: TEMPORAL_NAMESPACE, value: {{ $.Values.temporal.namespace | quote }} }
- { name: ACECODER_QUEUE, value: {{ $.Values.temporal.queue | quote }} }
- { name: ACECODER_HOME, value: /home/acecoder }
- { name: HOME, value: /home/acecoder }
- { name: ACECODER_S3_ENDPOINT, value: {{ $.Values.store.endpoint | quote }} }
- { name: ACECODER_S3_BUCKET, value: {{ $.Values.store.bucket | quote }} }
- { name: ACECODER_S3_REGION, value: {{ $.Values.store.region | quote }} }
{{- with $.Values.store.prefix }}
- { name: ACECODER_S3_PREFIX, value: {{ . | quote }} }
{{- end }}
- { name: ACECODER_GRACE_SECONDS, value: {{ $.Values.graceSeconds | quote }} }
- { name: ACECODER_METRICS, value: {{ printf "0.0.0.0:%v" $.Values.observability.metricsPort | quote }} }
- { name: ACECODER_HEALTH, value: {{ printf "0.0.0.0:%v" $.Values.observability.healthPort | quote }} }
- { name: ACECODER_LOG, value: {{ $.Values.observability.logFormat | quote }} }
{{- if eq $worker.role "sandbox" }}
- { name: ACECODER_SANDBOX_MINIMUM, value: {{ $worker.minimum | quote }} }
{{- end }}
{{- if and (eq $worker.role "llm") $.Values.llm.endpoints }}
- { name: ACECODER_ENDPOINTS, value: {{ $.Values.llm.endpoints | quote }} }
{{- end }}
{{- if and (eq $worker.role "gpu") (ne $worker.class "") }}
- { name: ACECODER_GPU_CLASSES, value: {{ dict $worker.class (dict "gpus" $worker.gpus) | toJson | quote }} }
{{- end }}
{{- end -}}
