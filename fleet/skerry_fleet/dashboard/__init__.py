"""The dashboard: pages for people, made on the server, live through server-sent events, without anything from afar."""
