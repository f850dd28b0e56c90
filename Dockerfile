# The service from dist/, as a user without rights, on a root file system that nothing writes to.
# State is in volumes: /etc/errand (configuration), /var/lib/errand/keys and /var/lib/errand/data.

FROM node:24-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY sdk/verifier/package.json sdk/verifier/
COPY sdk/agent/package.json sdk/agent/
# The SDKs are bundled into dist/, so the links that npm makes for workspaces would lead nowhere.
RUN npm ci --omit=dev && rm -rf node_modules/@errand

FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY sdk/verifier/package.json sdk/verifier/
COPY sdk/agent/package.json sdk/agent/
RUN npm ci
COPY tsconfig.json tsdown.config.ts ./
COPY sdk sdk
COPY src src
RUN npm run build && mkdir -p state/keys state/data

# No shell, no package manager: Node and the C library.
FROM gcr.io/distroless/nodejs24-debian12:nonroot
LABEL org.opencontainers.image.title="Errand" \
      org.opencontainers.image.description="Credential broker and identity service for AI agents" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /app
ENV NODE_ENV=production \
    ERRAND_CONFIG=/etc/errand \
    ERRAND_KEYS=/var/lib/errand/keys \
    ERRAND_DATA=/var/lib/errand/data
COPY --from=packages /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY package.json LICENSE ./
COPY bin bin
# New volumes take the owner of what they cover.
COPY --from=build --chown=65532:65532 /app/state /var/lib/errand
VOLUME ["/etc/errand", "/var/lib/errand/keys", "/var/lib/errand/data"]
EXPOSE 4460 4461
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
  CMD ["/nodejs/bin/node", "-e", "fetch('http://127.0.0.1:4460/health').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["/nodejs/bin/node", "bin/errand.js"]
CMD ["serve"]
