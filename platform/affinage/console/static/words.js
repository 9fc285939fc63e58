// Every word of the page, in the languages of its users. The browser's language decides.
"use strict";
const WORDS = {
  en: {
    skip: "Skip to the question", signOut: "Sign out", signInTitle: "Sign in",
    signInFailed: "This link was used before or is too old. Start again for a new one.",
    signInHow: "Open the link that this command prints. It works once, within 15 minutes:",
    askTitle: "Ask your documents", assistant: "Assistant", question: "Question",
    hint: "The answer is made of sentences from documents that you may read.",
    hintText: "Paste the text to work on.", send: "Ask", sending: "Looking…",
    answer: "Answer", known: "Checked against sources", checked: "Checked against your text", unknown: "No checked source",
    rateTitle: "Was this answer right?", up: "Yes", down: "No", reasonsTitle: "What was wrong?",
    comment: "Comment (optional)", correction: "The right answer (optional; quote the document word for word)", submit: "Send feedback",
    correctionText: "The right answer (optional)",
    thanks: "Thank you, your feedback is stored.", sources: "Sources",
    noSources: "Nothing in the documents that you may read answers this question.",
    noEvidence: "Nothing of this answer stands word for word in your text.",
    inQuestion: "In your text", page: "page", open: "Open the document", close: "Close",
    offline: "The gateway does not answer. Try again in a moment.", noAssistants: "There is no assistant that you may use.",
    reasons: { incorrect: "Incorrect", incomplete: "Incomplete", off_topic: "Off topic", tone: "Tone", source: "Wrong source" },
  },
  fr: {
    skip: "Aller à la question", signOut: "Se déconnecter", signInTitle: "Se connecter",
    signInFailed: "Ce lien a déjà servi ou il est trop ancien. Relancez la commande pour en obtenir un autre.",
    signInHow: "Ouvrez le lien qu'affiche cette commande. Il sert une seule fois, dans les 15 minutes :",
    askTitle: "Interrogez vos documents", assistant: "Assistant", question: "Question",
    hint: "La réponse est faite de phrases tirées des documents que vous pouvez lire.",
    hintText: "Collez le texte à traiter.", send: "Demander", sending: "Recherche…",
    answer: "Réponse", known: "Vérifiée dans les sources", checked: "Vérifiée dans votre texte", unknown: "Sans source vérifiée",
    rateTitle: "Cette réponse est-elle juste ?", up: "Oui", down: "Non", reasonsTitle: "Qu'est-ce qui ne va pas ?",
    comment: "Commentaire (facultatif)", correction: "La bonne réponse (facultatif ; citez le document mot pour mot)", submit: "Envoyer l'avis",
    correctionText: "La bonne réponse (facultatif)",
    thanks: "Merci, votre avis est enregistré.", sources: "Sources",
    noSources: "Rien dans les documents que vous pouvez lire ne répond à cette question.",
    noEvidence: "Rien de cette réponse ne figure mot pour mot dans votre texte.",
    inQuestion: "Dans votre texte", page: "page", open: "Ouvrir le document", close: "Fermer",
    offline: "Le service ne répond pas. Réessayez dans un instant.", noAssistants: "Aucun assistant ne vous est ouvert.",
    reasons: { incorrect: "Inexacte", incomplete: "Incomplète", off_topic: "Hors sujet", tone: "Ton", source: "Mauvaise source" },
  },
};
const LANGUAGE = (navigator.languages || [navigator.language]).map((l) => l.slice(0, 2)).find((l) => l in WORDS) || "en";
const T = WORDS[LANGUAGE];
