// The app's own functions: here to show that they stay as they are.
const { onRequest } = require("firebase-functions/v2/https");

exports.ping = onRequest((request, response) => response.send("pong"));
