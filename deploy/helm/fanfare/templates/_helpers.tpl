{{- define "fanfare.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* What all objects' names begin with; with a role's name they stay within 63 characters. */}}
{{- define "fanfare.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "fanfare.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "fanfare.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "fanfare.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What never changes of an object: selectors are made of it. */}}
{{- define "fanfare.selector" -}}
app.kubernetes.io/name: {{ include "fanfare.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "fanfare.labels" -}}
{{ include "fanfare.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "fanfare.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{- define "fanfare.secretName" -}}
{{- required "secret.name is missing: make a Secret with the connection strings and the key ring (see values.yaml for its keys), and give its name" .Values.secret.name -}}
{{- end -}}

{{- define "fanfare.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "fanfare.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/*
The deployment of one role. It gets a dict of `root` and `role`; the role's values, and this template,
have the differences between roles.
*/}}
{{- define "fanfare.deployment" -}}
{{- $root := .root -}}
{{- $role := .role -}}
{{- $values := index $root.Values $role -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "fanfare.fullname" $root }}-{{ $role }}
  labels:
    {{- include "fanfare.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ $role }}
spec:
  {{- if not (and (eq $role "worker") $root.Values.autoscaling.enabled) }}
  replicas: {{ $values.replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  strategy:
    rollingUpdate: { maxSurge: 1, maxUnavailable: 0 }
  selector:
    matchLabels:
      {{- include "fanfare.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ $role }}
  template:
    metadata:
      {{- with $root.Values.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
      labels:
        {{- include "fanfare.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ $role }}
        {{- with $root.Values.podLabels }}{{- toYaml . | nindent 8 }}{{- end }}
    spec:
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      serviceAccountName: {{ include "fanfare.serviceAccountName" $root }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      securityContext: {{- include "fanfare.podSecurityContext" $root | nindent 8 }}
      # A process hands its work back within 30 s of SIGTERM.
      terminationGracePeriodSeconds: 45
      containers:
        - name: {{ $role }}
          image: {{ include "fanfare.image" $root | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [{{ $role }}]
          env:
            - { name: FANFARE_DATABASE_URL_FILE, value: /run/secrets/fanfare/database-url }
            - { name: FANFARE_AMQP_URL_FILE, value: /run/secrets/fanfare/amqp-url }
            - { name: FANFARE_SECRET_KEYS_FILE, value: /run/secrets/fanfare/secret-keys }
            - { name: FANFARE_METRICS_LISTEN, value: "0.0.0.0:9090" }
            {{- if eq $role "console" }}
            - { name: FANFARE_CONSOLE_LISTEN, value: "0.0.0.0:8080" }
            {{- end }}
            {{- if and $root.Values.allowTargets (ne $role "router") }}
            - name: FANFARE_ALLOW_TARGETS
              value: {{ join "," $root.Values.allowTargets | quote }}
            {{- end }}
            - { name: FANFARE_LOG_FORMAT, value: json }
            {{- $queues := dict "FANFARE_DELIVERY_QUEUES" $root.Values.deliveryQueues }}
            {{- range $name, $value := merge (deepCopy $values.settings) $root.Values.settings $queues }}
            - name: {{ $name }}
              value: {{ $value | quote }}
            {{- end }}
          ports:
            - { name: metrics, containerPort: 9090 }
            {{- if eq $role "console" }}
            - { name: http, containerPort: 8080 }
            {{- end }}
          # False only when a restart would help: a broker or database that is away is waited for.
          livenessProbe:
            httpGet: { path: /healthz, port: metrics }
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            httpGet: { path: /readyz, port: metrics }
            periodSeconds: 5
            timeoutSeconds: 5
          securityContext: {{- include "fanfare.securityContext" $root | nindent 12 }}
          resources: {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            - { name: secrets, mountPath: /run/secrets/fanfare, readOnly: true }
            {{- with $root.Values.extraVolumeMounts }}{{- toYaml . | nindent 12 }}{{- end }}
      volumes:
        - name: secrets
          secret:
            secretName: {{ include "fanfare.secretName" $root }}
            defaultMode: 0440
            items:
              - { key: {{ index $root.Values.secret.keys (printf "%sDatabaseUrl" $role) }}, path: database-url }
              - { key: {{ index $root.Values.secret.keys (printf "%sAmqpUrl" $role) }}, path: amqp-url }
              - { key: {{ $root.Values.secret.keys.secretKeys }}, path: secret-keys }
        {{- with $root.Values.extraVolumes }}{{- toYaml . | nindent 8 }}{{- end }}
      # Side by side where there is a choice, so that a node or a zone that goes takes few.
      topologySpreadConstraints:
        {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "fanfare.selector" $root | nindent 14 }}
              app.kubernetes.io/component: {{ $role }}
        {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end -}}
