// Emoji to choose from. Any other one can be typed.

/** What is offered first. */
export const QUICK = ['👍', '❤️', '😂', '🎉', '😮', '🙏'];

export const COMMON = [
  ...['😀', '😄', '😅', '🤣', '🙂', '😉', '😊', '😍', '😘', '😎', '🤓', '🤔', '🤨', '😐', '🙄', '😏', '😬', '😴', '😢', '😭', '😡', '🤯', '🥳', '🤗', '🤝', '👋'],
  ...['👎', '👏', '🙌', '💪', '🤞', '✌️', '👌', '👀', '🧠', '💯', '🔥', '✨', '⭐', '💡', '❓', '❗', '✅', '❌', '⚠️', '🚀', '🐛', '🔧', '📌', '📎', '📝', '📅'],
  ...['⏰', '☕', '🍕', '🍰', '🍻', '🌞', '🌧️', '🌈', '🌱', '🌸', '🐱', '🐶', '🦊', '🏠', '🚲', '✈️', '🎵', '🎮', '📚', '💻', '💜', '💙', '💚', '🧡', '🖤', '💔'],
];

/** One character as people see it, and not a letter or a sign of a text; as the server takes it. */
export function isEmoji(text: string): boolean {
  if (text === '' || /^[\x00-\x7f]*$/.test(text) || /[\p{L}\p{Cc}]/u.test(text)) return false;
  return new TextEncoder().encode(text).length <= 64 && [...new Intl.Segmenter().segment(text)].length === 1;
}
