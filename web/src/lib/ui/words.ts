// Every word that a person reads, in one place. Failures are said by their reason, never by a raw message.

import { CallFailed, Reason } from '../api/failure';

const plural = (n: number, one: string, many: string) => (n === 1 ? one : many.replace('#', n.toLocaleString()));

export const words = {
  app: 'Tertulia',
  tagline: 'Good company, good talk.',
  auth: {
    signIn: 'Sign in',
    signUp: 'Create account',
    signInTitle: 'Welcome back',
    signUpTitle: 'Take a seat',
    signInLead: 'Sign in to go on talking.',
    signUpLead: 'An account takes a name and a password.',
    toSignUp: 'New here?',
    toSignIn: 'Have an account?',
    name: 'Name',
    nameHint: '2 to 32 letters, digits, dots, dashes or underscores; a letter first.',
    displayName: 'Display name',
    displayNameHint: 'What others see. You can change it later.',
    optional: 'optional',
    password: 'Password',
    passwordHint: 'At least 10 characters.',
    show: 'Show password',
    hide: 'Hide password',
    busyIn: 'Signing in…',
    busyUp: 'Creating your account…',
    ended: 'You were signed out. Your unsent messages are kept until you sign in again.',
    nameNeeded: 'Enter your name.',
    nameShort: 'A name has at least 2 characters.',
    nameLong: 'A name has at most 32 characters.',
    nameLetters: 'A name begins with a letter and has only letters a–z, digits, dots, dashes and underscores.',
    displayNameLong: 'A display name has at most 100 characters.',
    passwordNeeded: 'Enter your password.',
    passwordShort: 'A password has at least 10 characters.',
    passwordLong: 'A password has at most 256 characters.',
    nameTaken: 'This name belongs to somebody. Choose another one.',
    weakPassword: 'This password is too easy to guess. Choose another one.',
    wrong: 'The name or the password is wrong.',
  },
  live: {
    connecting: 'Connecting…',
    online: 'Connected',
    offline: 'You are offline',
    waiting: (seconds: number) => (seconds > 0 ? `Connection lost. Trying again in ${seconds} s` : 'Trying again…'),
    tooMany: 'Too many sessions are open.',
    refused: 'The server refuses this client. Reloading the page may help.',
    tryNow: 'Try now',
    unsent: (n: number) => plural(n, '1 message waits to be sent', '# messages wait to be sent'),
    trouble: 'This browser could not store data. Free some space, then reload.',
  },
  list: {
    title: 'Chats',
    empty: 'No chats yet',
    emptyLead: 'Find a person and say hello.',
    find: 'Find a person',
    findPlaceholder: 'Find a person',
    people: 'People',
    nobody: (query: string) => `Nobody’s name begins with “${query}”.`,
    found: (n: number) => plural(n, '1 person found', '# people found'),
    more: 'There are more. Type on to narrow it down.',
    searching: 'Searching…',
    opening: 'Opening…',
    you: 'You: ',
    nothingYet: 'Nothing said yet',
    unread: (n: number) => plural(n, '1 new message', '# new messages'),
    failed: 'Not sent',
    somebody: 'Somebody',
    clear: 'Clear',
    pick: 'Pick a chat, or find a person to talk to.',
    pickTitle: 'Whom shall we talk to?',
  },
  chat: {
    back: 'Back to the chats',
    messages: (name: string) => `Messages with ${name}`,
    begin: (name: string) => `This is the beginning of your chat with ${name}.`,
    emptyTitle: (name: string) => `Say hello to ${name}`,
    emptyLead: 'Nobody has said anything yet.',
    loading: 'Loading messages…',
    older: 'Loading older messages…',
    newOnes: 'New messages',
    newLine: 'New',
    jump: 'To the newest message',
    sending: 'Sending…',
    sent: 'Sent',
    notSent: 'Not sent.',
    retry: 'Retry',
    delete: 'Delete',
    you: 'You',
    today: 'Today',
    yesterday: 'Yesterday',
    gone: 'This chat is not here',
    goneLead: 'It may belong to another account.',
    unreadable: 'The messages could not be loaded.',
  },
  composer: {
    label: (name: string) => `Message to ${name}`,
    placeholder: 'Write a message',
    send: 'Send',
    left: (n: number) => (n >= 0 ? plural(n, '1 character left', '# characters left') : `${(-n).toLocaleString()} too many`),
  },
  profile: {
    open: 'Your profile and settings',
    title: 'Your profile',
    displayName: 'Display name',
    displayNameNeeded: 'Enter a display name.',
    about: 'About you',
    aboutHint: 'A few words that others see.',
    aboutLong: 'At most 500 characters.',
    save: 'Save',
    saved: 'Saved',
    appearance: 'Appearance',
    auto: 'System',
    light: 'Light',
    dark: 'Dark',
    logins: 'Where you are signed in',
    thisOne: 'this one',
    since: (when: string) => `since ${when}`,
    active: (when: string) => `last used ${when}`,
    end: 'End',
    endNamed: (name: string) => `End the login ${name}`,
    signOut: 'Sign out',
    signOutUnsent: (n: number) =>
      `${plural(n, '1 message has', '# messages have')} not been sent and will be lost. Sign out all the same?`,
    stay: 'Stay',
    close: 'Close',
  },
  theme: { toDark: 'Switch to dark', toLight: 'Switch to light' },
  tryAgain: 'Try again',
  brokenTitle: 'Tertulia can not store anything in this browser',
  broken: 'It keeps your messages in the browser, which refuses. Allow this site to store data, then reload.',
  reload: 'Reload',
};

/** What a failure means for the person. */
export function failureWords(failure: CallFailed): string {
  const seconds = Math.ceil(failure.retryAfterMs / 1000);
  const wait = seconds > 1 ? `Try again in ${seconds} seconds.` : 'Try again in a moment.';
  switch (failure.reason) {
    case Reason.WRONG_CREDENTIALS:
      return words.auth.wrong;
    case Reason.NAME_TAKEN:
      return words.auth.nameTaken;
    case Reason.WEAK_PASSWORD:
      return words.auth.weakPassword;
    case Reason.INVALID_REQUEST:
      return 'Something that you entered is not accepted.';
    case Reason.TOO_LARGE:
      return 'This is too long.';
    case Reason.NOT_ALLOWED:
      return 'You are not allowed to do this.';
    case Reason.USER_NOT_FOUND:
      return 'This person is not here any more.';
    case Reason.CHAT_NOT_FOUND:
      return 'This chat is not here any more.';
    case Reason.CHAT_WITH_SELF:
      return 'A chat needs somebody else.';
    case Reason.TOO_MANY_REQUESTS:
      return `That was a lot at once. ${wait}`;
    case Reason.OVERLOADED:
    case Reason.DRAINING:
    case Reason.STORE_UNAVAILABLE:
      return `The server is busy. ${wait}`;
    case Reason.NOT_SIGNED_IN:
    case Reason.BAD_TOKEN:
    case Reason.TOKEN_EXPIRED:
    case Reason.LOGIN_ENDED:
    case Reason.BAD_REFRESH_TOKEN:
    case Reason.REFRESH_TOKEN_REUSED:
      return 'You are signed out. Sign in again.';
  }
  if (failure.code === 'no_connection') return 'The server can not be reached. Check your connection and try again.';
  if (failure.retryable) return 'That took too long. Try again.';
  const quote = failure.requestId ? ` Quote ${failure.requestId} when you ask for help.` : '';
  return `Something went wrong on the server.${quote}`;
}

/** Why a message was refused. */
export function refusalWords(reason: number | undefined): string {
  return reason === undefined ? '' : failureWords(new CallFailed('unknown', '', reason));
}
